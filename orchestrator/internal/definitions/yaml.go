package definitions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// parse reads one document of YAML; nil when there is none.
func parse(file string, text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, explainYAML(file, err)
	}
	var second yaml.Node
	if decoder.Decode(&second) == nil {
		return nil, refuse(file, second.Line, "Write all of it as one.", "a second document begins")
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	return document.Content[0], nil
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

func explainYAML(file string, err error) error {
	const hint = "A value with special characters is put in quotes; a list is [a, b]."
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ := strconv.Atoi(found[1])
		return refuse(file, line, hint, "this is not YAML: %s", found[2])
	}
	return refuse(file, 0, hint, "this is not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
}

// A pair is an entry of a mapping.
type pair struct {
	name  string
	line  int
	value *yaml.Node
}

// pairs are the entries of a mapping, each of another name. An empty value is an empty mapping.
func pairs(file string, node *yaml.Node) ([]pair, error) {
	if node == nil || node.ShortTag() == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, refuse(file, node.Line, "Write it as name: value.", "%s is no list of names and values", shorten(node))
	}
	seen := make(map[string]bool)
	var found []pair
	for i := 0; i < len(node.Content); i += 2 {
		name := node.Content[i]
		if name.Kind != yaml.ScalarNode {
			return nil, refuse(file, name.Line, "Write it as name: value.", "this is no name")
		}
		if seen[name.Value] {
			return nil, refuse(file, name.Line, "Remove one of them.", "%s is there twice", name.Value)
		}
		seen[name.Value] = true
		found = append(found, pair{name.Value, name.Line, node.Content[i+1]})
	}
	return found, nil
}

func shorten(node *yaml.Node) string {
	if node.Kind != yaml.ScalarNode {
		return "this"
	}
	if text := []rune(node.Value); len(text) > 40 {
		return strconv.Quote(string(text[:40]) + "…")
	}
	return strconv.Quote(node.Value)
}

// read is the value of a key, in the form in which JSON has it; nil for none.
func read(file string, k key, node *yaml.Node) (any, error) {
	if node.ShortTag() == "!!null" {
		return nil, nil
	}
	bad := func(hint string) error {
		return refuse(file, node.Line, hint, "%s cannot be %s", k.name, shorten(node))
	}
	isScalar := node.Kind == yaml.ScalarNode
	switch k.kindOfValue {
	case "text":
		if !isScalar {
			return nil, bad("Write one text.")
		}
		return node.Value, nil
	case "number":
		number := json.Number(node.Value)
		if !isScalar || !json.Valid([]byte(number)) || !slices.Contains([]string{"!!int", "!!float"}, node.ShortTag()) {
			return nil, bad("Write a number.")
		}
		return number, nil
	case "boolean":
		var value bool
		if !isScalar || node.Decode(&value) != nil {
			return nil, bad("Write true or false.")
		}
		return value, nil
	case "list":
		return readList(node, bad)
	case "object":
		return readObject(file, node)
	}
	return nil, refuse(file, node.Line, "Write it below the comment block.", "%s is no key", k.name)
}

func readList(node *yaml.Node, bad func(string) error) (any, error) {
	const hint = "Write a list of texts: [a, b]."
	switch node.Kind {
	case yaml.ScalarNode:
		return []string{node.Value}, nil
	case yaml.SequenceNode:
		list := []string{}
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, bad(hint)
			}
			list = append(list, item.Value)
		}
		return list, nil
	}
	return nil, bad(hint)
}

func readObject(file string, node *yaml.Node) (any, error) {
	if node.Kind == yaml.MappingNode {
		return readAny(file, node)
	}
	return nil, refuse(file, node.Line, "Write it as name: value.", "%s is no list of names and values", shorten(node))
}

// readAny reads a value of any form. Anchors are not followed: a few of them can stand for billions of values.
func readAny(file string, node *yaml.Node) (any, error) {
	switch node.Kind {
	case yaml.MappingNode:
		found, err := pairs(file, node)
		object := make(map[string]any)
		for _, entry := range found {
			if object[entry.name], err = readAny(file, entry.value); err != nil {
				return nil, err
			}
		}
		return object, err
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range node.Content {
			value, err := readAny(file, item)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.ScalarNode:
		switch node.ShortTag() {
		case "!!null":
			return nil, nil
		case "!!bool":
			var value bool
			err := node.Decode(&value)
			return value, err
		case "!!int", "!!float":
			if json.Valid([]byte(node.Value)) {
				return json.Number(node.Value), nil
			}
		}
		return node.Value, nil
	}
	return nil, refuse(file, node.Line, "Write the value itself.", "anchors and aliases are not available")
}

// write is the node of a value that the database has written.
func write(raw json.RawMessage) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, fmt.Errorf("read a definition: %w", err)
	}
	return nodeOf(value), nil
}

func nodeOf(value any) *yaml.Node {
	switch value := value.(type) {
	case map[string]any:
		node := &yaml.Node{Kind: yaml.MappingNode}
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			node.Content = append(node.Content, textNode(name), nodeOf(value[name]))
		}
		return node
	case []any:
		node := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, item := range value {
			node.Content = append(node.Content, nodeOf(item))
		}
		return node
	case string:
		return textNode(value)
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	}
	// A number or a boolean.
	return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(value)}
}

// textNode is a text, on lines of its own if it has several. What an editor, Git or YAML may take for the end of a
// line, or cannot show, is escaped.
func textNode(text string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	isOdd := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	switch {
	case strings.ContainsFunc(text, isOdd) || strings.TrimSpace(text) != text || strings.Contains(text, " \n"):
		node.Style = yaml.DoubleQuotedStyle
	case strings.Contains(text, "\n"):
		node.Style = yaml.LiteralStyle
	}
	return node
}

// encodeYAML writes a mapping; empty when it has no entry.
func encodeYAML(node *yaml.Node) (string, error) {
	if len(node.Content) == 0 {
		return "", nil
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return "", fmt.Errorf("write YAML: %w", err)
	}
	return b.String(), encoder.Close()
}
