// Package filter reads the part of CEL that clients of the ingestion API send in
// the filter of a list: comparisons of fields with literals.
//
//	expr    = and { "||" and }
//	and     = unary { "&&" unary }
//	unary   = { "!" } ( "(" expr ")" | field [ test ] )
//	test    = ( "==" | "!=" ) literal | "in" "[" [ literal { "," literal } ] "]"
//	        | "." ( "contains" | "startsWith" | "endsWith" ) "(" string ")"
//	literal = string | "true" | "false"
//
// Strings stand in single or double quotes, with the escapes of CEL. A field
// without a test must be a bool. Everything else is an error that says at which
// byte and what was expected. Parsing takes time in proportion to the length of
// the text, and nesting is bounded.
package filter
