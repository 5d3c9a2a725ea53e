// Package stamp turns the text of an event time into nanoseconds since the Unix
// epoch.
//
// Numbers are read exactly, digit by digit: a floating-point value of seconds
// since 1970 is only good to some 200 ns. What lies between two nanoseconds is
// rounded to the nearer one.
package stamp
