//go:build faults

package upload_test

const propertyFiles = 10_000
