package docs_test

const signatures = "orchestrator/docs/SIGNATURES.md"

var verifiers = map[string]string{}
