// Package config turns pipeline files into typed pipelines, or into a list of
// everything that is wrong with them, each with its place in a file.
//
// Load reads a file or a directory, evaluates variables, locals and functions,
// checks host settings, checks the body of each plugin block against the schema
// of that plugin and then asks the plugin itself. It starts nothing and keeps
// nothing: plugins are reached through SchemaProvider and PluginValidator, which
// the caller implements. A Config belongs to the caller and is not changed
// after Load returns it.
//
// Secrets are marked from the function that reads them to the body of a plugin
// block. No diagnostic can quote one: the text of a problem always comes from
// an evaluation in which secrets have no value (see value), and values of
// sensitive attributes are masked in quoted source lines.
//
// Work and memory are bounded for any input: size and number of files, depth of
// nesting, length of expressions, steps of loops, size of values, number of
// problems reported.
package config
