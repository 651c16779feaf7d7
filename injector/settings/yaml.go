// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Most is how long a configuration may be, in bytes: what a ConfigMap can hold.
const Most = 1 << 20

// deepest is how deep the values of a configuration may nest. A pod template's own depth is about 12.
const deepest = 64

// document is a YAML document turned into JSON, with the way back: Kubernetes' types have JSON names only, and its
// strict JSON decoder knows paths and offsets but no lines.
//
// YAML here is YAML 1.2: on, yes, y, no and off are words, not booleans. (sigs.k8s.io/yaml, which kubectl uses, reads
// YAML 1.1 and would turn the policy on into the policy true.)
type document struct {
	json   []byte
	values []value // in the order in which they begin
}

// value is one value of the document, a scalar or not.
type value struct {
	path       string // as in template.containers[0].image; empty for the document
	line       int    // from 1
	start, end int    // in json
	scalar     bool
}

// parseYAML reads one YAML document. Anchors, aliases, tags and merge keys are refused: a configuration is meant to
// be read, and an alias can grow without bounds.
func parseYAML(data []byte) (*document, error) {
	if len(data) > Most {
		return nil, Problem{Text: fmt.Sprintf("%d bytes are too many, at most %d are read", len(data), Most)}
	}
	if line := tooDeep(data); line > 0 {
		return nil, Problem{Line: line, Text: fmt.Sprintf("nested deeper than %d", deepest)}
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			return nil, Problem{Line: syntax.GetToken().Position.Line, Text: syntax.GetMessage()}
		}
		return nil, Problem{Text: err.Error()}
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	d := &document{}
	switch len(bodies) {
	case 0:
		d.json = []byte("{}") // nothing but comments: what is required will be missed
		return d, nil
	case 1:
	default:
		return nil, Problem{Line: bodies[1].GetToken().Position.Line, Text: "a second document: only one is read"}
	}
	var out bytes.Buffer
	if err := d.write(&out, bodies[0], "", deepest); err != nil {
		return nil, err
	}
	d.json = out.Bytes()
	return d, nil
}

// tooDeep returns the line on which brackets, or dashes at its beginning, nest deeper than the parser should be asked to
// go, or 0. It counts brackets in strings too, which are opened and not closed there too seldom to matter.
func tooDeep(data []byte) int {
	line, depth, dashes, bare := 1, 0, 0, true
	for _, c := range data {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(0, depth-1)
		case '-', '?', ':':
			if bare {
				dashes++
			}
		case '\n':
			line, dashes = line+1, 0
		}
		bare = c == '\n' || bare && strings.IndexByte(" \t-?:", c) >= 0
		if depth > deepest || dashes > deepest {
			return line
		}
	}
	return 0
}

// write appends a node's JSON and remembers where its values are.
func (d *document) write(out *bytes.Buffer, node ast.Node, path string, depth int) error {
	if node == nil || node.GetToken() == nil {
		out.WriteString("null")
		return nil
	}
	line := node.GetToken().Position.Line
	if depth == 0 {
		return Problem{Line: line, Path: path, Text: fmt.Sprintf("nested deeper than %d", deepest)}
	}
	at := len(d.values)
	d.values = append(d.values, value{path: path, line: line, start: out.Len(), scalar: true})
	var err error
	switch node := node.(type) {
	case *ast.MappingNode:
		d.values[at].scalar = false
		err = d.writeMapping(out, node.Values, path, depth)
	case *ast.MappingValueNode:
		d.values[at].scalar = false
		err = d.writeMapping(out, []*ast.MappingValueNode{node}, path, depth)
	case *ast.SequenceNode:
		d.values[at].scalar = false
		err = d.writeSequence(out, node.Values, path, depth)
	case *ast.NullNode:
		out.WriteString("null")
	case *ast.BoolNode:
		out.WriteString(strconv.FormatBool(node.Value))
	case *ast.StringNode:
		err = writeJSON(out, node.Value)
	case *ast.LiteralNode:
		err = writeJSON(out, node.Value.Value)
	case *ast.IntegerNode:
		err = writeJSON(out, node.Value)
	case *ast.FloatNode:
		err = writeJSON(out, node.Value)
	default:
		return Problem{Line: line, Path: path, Text: fmt.Sprintf("%s: not allowed in a configuration", kindOf(node))}
	}
	if err != nil {
		return d.locate(err, line, path)
	}
	d.values[at].end = out.Len()
	return nil
}

// locate gives an error a place, unless it has one.
func (d *document) locate(err error, line int, path string) error {
	var problem Problem
	if errors.As(err, &problem) {
		return err
	}
	return Problem{Line: line, Path: path, Text: err.Error()}
}

func kindOf(node ast.Node) string {
	return strings.ToLower(strings.TrimSuffix(node.Type().String(), "Type"))
}

func (d *document) writeMapping(out *bytes.Buffer, pairs []*ast.MappingValueNode, path string, depth int) error {
	out.WriteByte('{')
	for i, pair := range pairs {
		key, err := keyText(pair.Key)
		if err != nil {
			return d.locate(err, pair.Key.GetToken().Position.Line, path)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeJSON(out, key); err != nil {
			return err
		}
		out.WriteByte(':')
		if err := d.write(out, pair.Value, join(path, key), depth-1); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

func (d *document) writeSequence(out *bytes.Buffer, items []ast.Node, path string, depth int) error {
	out.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := d.write(out, item, fmt.Sprintf("%s[%d]", path, i), depth-1); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	return nil
}

// keyText returns a key as it is written: the key true of a label map is the text true.
func keyText(key ast.MapKeyNode) (string, error) {
	switch key := key.(type) {
	case *ast.StringNode:
		return key.Value, nil
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.NullNode:
		return key.GetToken().Value, nil
	}
	return "", fmt.Errorf("%s as a key: not allowed in a configuration", kindOf(key))
}

func writeJSON(out *bytes.Buffer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	out.Write(text)
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
