// SPDX-License-Identifier: Apache-2.0

package table

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// A Word is a plain scalar exactly as it is written: on, yes, True and 1.10 stay these words, quoted or not.
type Word string

// Words is one word or a list of them.
type Words []Word

// An Overlay is a free document, read as YAML 1.2's JSON schema has it: only true, false, null and JSON's numbers are
// anything but strings. y, yes, on, True and their like stay the words they are.
type Overlay map[string]any

// Parts are what must occur in a text, all of them: what stands between them differs from run to run. In a file a text, or a
// list of them.
type Parts []string

// UnmarshalYAML takes one text or a list of them.
func (p *Parts) UnmarshalYAML(node ast.Node) error {
	var words Words
	if err := words.UnmarshalYAML(node); err != nil {
		return err
	}
	*p = nil
	for _, w := range words {
		*p = append(*p, string(w))
	}
	return nil
}

// In tells whether all parts occur in text.
func (p Parts) In(text string) bool {
	return !slices.ContainsFunc(p, func(part string) bool { return !strings.Contains(text, part) })
}

// String is the parts in a row.
func (p Parts) String() string { return strings.Join(p, " … ") }

// UnmarshalYAML takes the scalar's own text.
func (w *Word) UnmarshalYAML(node ast.Node) error {
	s, ok := scalarText(node)
	if !ok {
		return syntaxError(node, "expected a word")
	}
	*w = Word(s)
	return nil
}

// UnmarshalYAML takes one word or a list of them.
func (w *Words) UnmarshalYAML(node ast.Node) error {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		var one Word
		if err := one.UnmarshalYAML(node); err != nil {
			return err
		}
		*w = Words{one}
		return nil
	}
	*w = make(Words, len(list.Values))
	for i, v := range list.Values {
		if err := (&(*w)[i]).UnmarshalYAML(v); err != nil {
			return err
		}
	}
	return nil
}

// UnmarshalYAML takes a mapping.
func (o *Overlay) UnmarshalYAML(node ast.Node) error {
	v, err := toAny(node)
	if err != nil {
		return err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return syntaxError(node, "expected a mapping")
	}
	*o = m
	return nil
}

// UnmarshalYAML reads a mapping of words to words.
func (w *When) UnmarshalYAML(node ast.Node) error {
	*w = When{}
	return eachPair(node, func(key string, value ast.Node) error {
		var words Words
		if err := words.UnmarshalYAML(value); err != nil {
			return err
		}
		(*w)[Word(key)] = words
		return nil
	})
}

// UnmarshalYAML reads the mapping, or the word that stands for its outcome. A mapping without an outcome is of steps.
func (t *Then) UnmarshalYAML(node ast.Node) error {
	if s, ok := scalarText(node); ok {
		*t = Then{Outcome: Outcome(s)}
		return nil
	}
	var course bool
	if err := eachPair(node, func(string, ast.Node) error { course = true; return nil }); err != nil {
		return err
	}
	_ = eachPair(node, func(key string, _ ast.Node) error { course = course && key != "outcome"; return nil })
	if !course {
		type plain Then // without this method
		return strict(node, (*plain)(t))
	}
	*t = Then{Course: map[Word]*Then{}}
	return eachPair(node, func(step string, value ast.Node) error {
		at := &Then{}
		t.Course[Word(step)] = at
		return at.UnmarshalYAML(value)
	})
}

// UnmarshalYAML reads a number, or a mapping of webhooks' names to numbers.
func (c *Calls) UnmarshalYAML(node ast.Node) error {
	number := func(n ast.Node) (int, error) {
		text, _ := scalarText(n)
		i, err := strconv.Atoi(text)
		if err != nil || i < 0 {
			return 0, syntaxError(n, "expected how many calls")
		}
		return i, nil
	}
	*c = Calls{}
	if _, ok := scalarText(node); ok {
		var err error
		c.Sum, err = number(node)
		return err
	}
	c.Each = map[string]int{}
	return eachPair(node, func(webhook string, value ast.Node) error {
		n, err := number(value)
		c.Each[webhook] = n
		c.Sum += n
		return err
	})
}

// UnmarshalYAML reads the value and keeps its line.
func (v *Value) UnmarshalYAML(node ast.Node) error {
	type plain Value
	if err := strict(node, (*plain)(v)); err != nil {
		return err
	}
	v.Line = line(node)
	return nil
}

// UnmarshalYAML reads the rule and keeps its line.
func (r *Rule) UnmarshalYAML(node ast.Node) error {
	type plain Rule
	if err := strict(node, (*plain)(r)); err != nil {
		return err
	}
	r.Line = line(node)
	return nil
}

// UnmarshalYAML reads the exclusion and keeps its line.
func (e *Exclusion) UnmarshalYAML(node ast.Node) error {
	type plain Exclusion
	if err := strict(node, (*plain)(e)); err != nil {
		return err
	}
	e.Line = line(node)
	return nil
}

// strict decodes node into v; an unknown or a doubled field is an error.
func strict(node ast.Node, v any) error {
	return yaml.NodeToValue(node, v, yaml.Strict())
}

// line is where node begins: for a mapping its first key, not the colon behind it.
func line(node ast.Node) int {
	if m, ok := node.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return line(m.Values[0])
	}
	if p, ok := node.(*ast.MappingValueNode); ok {
		return line(p.Key)
	}
	if t := node.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func syntaxError(node ast.Node, format string, args ...any) error {
	return &yaml.SyntaxError{Message: fmt.Sprintf(format, args...), Token: node.GetToken()}
}

// scalarText is the text of a scalar: what stands between quotes, or the word as written.
func scalarText(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// eachPair calls f for each key and value of a mapping, in the order of the file. A doubled key is an error.
func eachPair(node ast.Node, f func(key string, value ast.Node) error) error {
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		return syntaxError(node, "expected a mapping")
	}
	seen := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		key, ok := scalarText(p.Key)
		if !ok {
			return syntaxError(p.Key, "expected a plain key: anchors, aliases and merge keys are not read here")
		}
		if seen[key] {
			return syntaxError(p.Key, "key %q stands twice in one mapping", key)
		}
		seen[key] = true
		if err := f(key, p.Value); err != nil {
			return err
		}
	}
	return nil
}

// toAny reads free YAML by YAML 1.2's JSON schema.
func toAny(node ast.Node) (any, error) {
	switch n := node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		m := map[string]any{}
		err := eachPair(n, func(key string, value ast.Node) (err error) {
			m[key], err = toAny(value)
			return err
		})
		return m, err
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, v := range n.Values {
			var err error
			if list[i], err = toAny(v); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	text, ok := scalarText(node)
	if !ok {
		return nil, syntaxError(node, "anchors, aliases, tags and merge keys are not read here: write the value out")
	}
	if t := node.GetToken(); t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
		return text, nil
	}
	if _, literal := node.(*ast.LiteralNode); literal {
		return text, nil
	}
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "null", "":
		return nil, nil
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(i, 10) == text {
		return i, nil
	}
	if jsonNumber(text) {
		f, err := strconv.ParseFloat(text, 64)
		return f, err
	}
	return text, nil
}

// jsonNumber tells whether text is a number as RFC 8259 writes it. Other spellings (0x1F, 1_000, 010) stay words.
func jsonNumber(text string) bool {
	i := 0
	digits := func() bool {
		start := i
		for i < len(text) && text[i] >= '0' && text[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(text) && text[i] == '-' {
		i++
	}
	start := i
	if !digits() || text[start] == '0' && i > start+1 {
		return false
	}
	if i < len(text) && text[i] == '.' {
		if i++; !digits() {
			return false
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(text)
}
