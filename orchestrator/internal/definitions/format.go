package definitions

import (
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	mainFile = "tinydevcrm.yaml"
	heading  = "# What orchestrator export has written, and orchestrator apply reads. Secrets are variables of the environment.\n"
)

// plurals are the parts of tinydevcrm.yaml, in order, and the kind of what each holds.
var plurals = []struct{ name, kind string }{
	{"tables", "table"}, {"sources", "source"}, {"subscriptions", "subscription"},
}

// mapping is a definition without its query.
func (k Keys) mapping(definition Definition) (*yaml.Node, error) {
	node := &yaml.Node{Kind: yaml.MappingNode}
	for _, key := range k[definition.Kind] {
		raw, has := definition.Values[key.name]
		if !has || key.kindOfValue == "query" {
			continue
		}
		value, err := write(raw)
		if err != nil {
			return nil, err
		}
		node.Content = append(node.Content, textNode(key.name), value)
	}
	return node, nil
}

// Format is a definition as its file has it, and the name of the file. Those of tinydevcrm.yaml are without the others.
func (k Keys) Format(definition Definition) (file, text string, err error) {
	if definition.Kind == "view" {
		text, err = k.formatView(definition)
		return viewPath(definition.Schema, definition.Relname, false), text, err
	}
	text, err = k.formatMain([]Definition{definition})
	return mainFile, text, err
}

// formatView writes settings as comments, which are YAML behind the dashes, then an empty line and the query.
func (k Keys) formatView(view Definition) (string, error) {
	settings, err := k.mapping(view)
	if err != nil {
		return "", err
	}
	text, err := encodeYAML(settings)
	if err != nil {
		return "", err
	}
	var query string
	if err := json.Unmarshal(view.Values["query"], &query); err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			line = " " + line
		}
		b.WriteString("--" + line)
	}
	b.WriteString("\n" + query + "\n")
	return b.String(), nil
}

func (k Keys) formatMain(definitions []Definition) (string, error) {
	document := &yaml.Node{Kind: yaml.MappingNode}
	for _, part := range plurals {
		entries := &yaml.Node{Kind: yaml.MappingNode}
		for _, definition := range definitions {
			if definition.Kind != part.kind {
				continue
			}
			node, err := k.mapping(definition)
			if err != nil {
				return "", err
			}
			entries.Content = append(entries.Content, textNode(definition.Name), node)
		}
		if len(entries.Content) > 0 {
			document.Content = append(document.Content, textNode(part.name), entries)
		}
	}
	return encodeYAML(document)
}
