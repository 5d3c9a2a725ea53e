// Package jsonline reads values out of JSON objects, one a line, by paths such as
// a.b or c[0].d.
//
// A Tree holds the paths that are wanted. It can learn them from lines: every
// value in nested objects becomes a column. A line is checked as a whole, also
// where nothing of it is wanted. Numbers may be NaN, Infinity and -Infinity, which
// many programs write. Of a key that stands twice in an object the last value
// counts. Nothing is allocated for a line, except for strings with escapes.
//
// A Tree belongs to one goroutine; values are valid until its next use and as long
// as the line is unchanged.
package jsonline
