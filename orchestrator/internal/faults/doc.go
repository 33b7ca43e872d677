// Package faults holds no code, only tests: they break what the program stands on, one fault a test, and
// say what the user sees and what is left after it. The program is the built one, run as a process;
// the server is a real one of each test's own. They take minutes: scripts/test --faults runs them.
package faults
