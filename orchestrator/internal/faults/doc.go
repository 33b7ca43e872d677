// Package faults has only tests. Each causes one fault in what the program depends on, and reports what the
// user sees and what is left afterwards. It runs the built program as a process, with a real server of its own.
// The tests take minutes: scripts/test --faults runs them.
package faults
