//go:build !faults

package upload_test

// propertyFiles is for each server of the matrix; scripts/test --faults takes 10,000.
const propertyFiles = 2_000
