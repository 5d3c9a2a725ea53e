// Package pyvenv gives tests a Python interpreter with packages: other
// implementations of what they test. It makes a virtual environment below build/,
// once for each set of packages, with pip as it is set up on the machine. Where
// that is not possible the test is skipped and says why; with -short it is skipped
// too, unless the environment is there already.
package pyvenv
