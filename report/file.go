// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// MaxBytes is how large a report may be, unpacked. 100,000 results take some 40 MB.
const MaxBytes = 1 << 30

// Write stores a report under that path, compressed where the name ends in .gz. Either the whole report is there
// afterwards, or what was there before: it is written to a temporary file beside it, synced, and renamed.
func Write(path string, r *Report) error {
	return WriteFile(path, func(w io.Writer) error {
		if !strings.HasSuffix(path, ".gz") {
			return Encode(w, r)
		}
		z := gzip.NewWriter(w) // no name and no time in its header: equal reports are equal files
		if err := Encode(z, r); err != nil {
			return err
		}
		return z.Close()
	})
}

// WriteFile stores what render writes under that path, all of it or nothing. Folders that are missing are made. An error
// at any byte (a full disk, say) leaves no file behind and an older one as it was.
func WriteFile(path string, render func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: make its folder: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: open a temporary file beside it: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // closed already, perhaps; what matters is the first error
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w (nothing was left under that name that was not there before)", path, err)
		}
	}()
	buf := bufio.NewWriterSize(f, 1<<16)
	if err := render(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil { // CreateTemp makes files that only the owner may read
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Encode writes a report as JSON, with a case a line, so that two reports can be compared by line.
func Encode(w io.Writer, r *Report) error {
	e := &encoder{w: bufio.NewWriterSize(w, 1<<16)}
	e.json = json.NewEncoder(&e.buf)
	e.json.SetEscapeHTML(false)
	e.text("{\n")
	e.field("schema", r.Schema)
	e.field("verdict", r.Verdict)
	if r.Baseline {
		e.field("baseline", true)
	}
	if r.Merged {
		e.field("merged", true)
	}
	e.list("runs", len(r.Runs), func(i int) any { return &r.Runs[i] })
	e.list("tables", len(r.Tables), func(i int) any { return &r.Tables[i] })
	if len(r.Quarantine) > 0 {
		e.list("quarantine", len(r.Quarantine), func(i int) any { return &r.Quarantine[i] })
	}
	if len(r.Effects) > 0 {
		e.list("effects", len(r.Effects), func(i int) any { return &r.Effects[i] })
	}
	e.last = true
	e.list("cases", len(r.Cases), func(i int) any { return &r.Cases[i] })
	e.text("}\n")
	if e.err == nil {
		e.err = e.w.Flush()
	}
	if e.err != nil {
		return fmt.Errorf("encode the report: %w", e.err)
	}
	return nil
}

type encoder struct {
	w    *bufio.Writer
	buf  bytes.Buffer
	json *json.Encoder
	last bool
	err  error
}

func (e *encoder) text(s string) {
	if e.err == nil {
		_, e.err = e.w.WriteString(s)
	}
}

func (e *encoder) value(v any) {
	if e.err != nil {
		return
	}
	e.buf.Reset()
	if e.err = e.json.Encode(v); e.err == nil {
		_, e.err = e.w.Write(bytes.TrimRight(e.buf.Bytes(), "\n"))
	}
}

func (e *encoder) field(name string, v any) {
	e.text(`"` + name + `":`)
	e.value(v)
	e.text(",\n")
}

func (e *encoder) list(name string, n int, at func(int) any) {
	e.text(`"` + name + `":[`)
	for i := range n {
		if i > 0 {
			e.text(",")
		}
		e.text("\n")
		e.value(at(i))
	}
	e.text("\n]")
	if !e.last {
		e.text(",")
	}
	e.text("\n")
}

// Read loads the report at that path, compressed or not, and checks it. What is not a sound report of a known version
// is an error that says so; it is the caller's infrastructure exit code.
func Read(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	defer f.Close()
	r, err := Decode(f)
	if err != nil {
		return nil, fmt.Errorf("read the report %s: %w", path, err)
	}
	return r, nil
}

// Decode reads a report, compressed or not, or packed in a log (see [Pack]), of at most [MaxBytes], and checks it.
func Decode(rd io.Reader) (*Report, error) {
	buf := bufio.NewReaderSize(rd, packWindow)
	packed, err := unpack(buf)
	if err != nil {
		return nil, err
	}
	if packed != nil {
		buf = bufio.NewReader(packed)
	}
	var in io.Reader = buf
	if magic, _ := buf.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(buf)
		if err != nil {
			return nil, fmt.Errorf("unpack it: %w", err)
		}
		in = z
	}
	limited := &io.LimitedReader{R: in, N: MaxBytes + 1}
	r, err := decode(limited)
	if limited.N <= 0 {
		return nil, fmt.Errorf("it is larger than %d MiB unpacked; that is no report", MaxBytes>>20)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil, errors.New("it ends in the middle: it was not written to its end; make it anew")
	}
	if err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	return r, nil
}

// decode reads the outer object by hand, so that the schema is looked at before anything else is believed, and so that
// no more than one case is held twice.
func decode(in io.Reader) (*Report, error) {
	d := json.NewDecoder(in)
	d.DisallowUnknownFields()
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	r := &Report{}
	strs := interner{}
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string)
		if seen[key] {
			return nil, fmt.Errorf("it is not an Outrigger report: the field %q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "schema":
			if err = d.Decode(&r.Schema); err == nil {
				err = checkSchema(r.Schema)
			}
		case "verdict":
			err = d.Decode(&r.Verdict)
		case "baseline":
			err = d.Decode(&r.Baseline)
		case "merged":
			err = d.Decode(&r.Merged)
		case "runs":
			err = d.Decode(&r.Runs)
		case "tables":
			err = d.Decode(&r.Tables)
		case "quarantine":
			err = d.Decode(&r.Quarantine)
		case "effects":
			err = d.Decode(&r.Effects)
		case "cases":
			err = decodeCases(d, r, strs)
		default:
			if r.Schema == "" {
				return nil, fmt.Errorf("it is not an Outrigger report: it begins with %.60q instead of a schema", key)
			}
			return nil, fmt.Errorf("it has the field %.60q, which the format %s does not know", key, r.Schema)
		}
		if err != nil {
			return nil, inField(key, err)
		}
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return nil, err
	}
	if _, err := d.Token(); errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	} else if !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows after the report's end")
	}
	for _, key := range []string{"schema", "verdict", "runs", "tables", "cases"} {
		if !seen[key] {
			return nil, fmt.Errorf("it is not an Outrigger report: it has no %s", key)
		}
	}
	return r, nil
}

func inField(key string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || key == "schema" {
		return err
	}
	return fmt.Errorf("in its %s: %w", key, err)
}

func decodeCases(d *json.Decoder, r *Report, strs interner) error {
	if err := expect(d, json.Delim('[')); err != nil {
		return err
	}
	r.Cases = []Case{}
	for d.More() {
		var c Case
		if err := d.Decode(&c); err != nil {
			return fmt.Errorf("case %d: %w", len(r.Cases)+1, err)
		}
		strs.inCase(&c)
		r.Cases = append(r.Cases, c)
	}
	return expect(d, json.Delim(']'))
}

func expect(d *json.Decoder, want json.Delim) error {
	tok, err := d.Token()
	if err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fmt.Errorf("it is not an Outrigger report: byte %d is no JSON: %w", syntax.Offset, err)
		}
		return err
	}
	if tok != want {
		return fmt.Errorf("it is not an Outrigger report: %v stands where %v should", tok, want)
	}
	return nil
}
