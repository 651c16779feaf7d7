// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func encode(t testing.TB, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encode(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWrittenIsRead(t *testing.T) {
	for _, name := range []string{"r.json", "r.json.gz", "new/folder/r.json"} {
		for what, r := range map[string]*Report{"sample": sample{bug: emptyIsTrue}.report(t), "everything": everything(t)} {
			path := filepath.Join(t.TempDir(), name)
			if err := Write(path, r); err != nil {
				t.Fatal(err)
			}
			got, err := Read(path)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%s, %s: %s", what, name, diff)
			}
			left, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(left) != 1 {
				t.Errorf("%s leaves %v, %v", name, left, err)
			}
		}
	}
}

// Every field of the format must occur in everything(), or the tests above say nothing about it.
func TestEverythingIsInEverything(t *testing.T) {
	text := string(encode(t, everything(t)))
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(ty reflect.Type) {
		for ty.Kind() == reflect.Slice || ty.Kind() == reflect.Pointer {
			ty = ty.Elem()
		}
		if ty.Kind() != reflect.Struct || seen[ty] || ty.PkgPath() != reflect.TypeFor[Report]().PkgPath() {
			return
		}
		seen[ty] = true
		for i := range ty.NumField() {
			name, _, _ := strings.Cut(ty.Field(i).Tag.Get("json"), ",")
			if name != "baseline" && name != "problem" && !strings.Contains(text, `"`+name+`":`) {
				t.Errorf("%s.%s (%s) does not occur", ty.Name(), ty.Field(i).Name, name)
			}
			walk(ty.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[Report]())
}

// Reports of every version of the format that was ever published stay readable; the files are never written anew.
func TestOldReportsAreRead(t *testing.T) {
	files, err := filepath.Glob("testdata/format-v1.*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no old reports in testdata", err)
	}
	for _, f := range files {
		r, err := Read(f)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if len(r.Cases) == 0 || r.Verdict.Counts.Fail == 0 || r.Cases[0].Expected.Outcome == "" {
			t.Errorf("%s: read, but not understood", f)
		}
	}
}

func TestBadReports(t *testing.T) {
	good := string(encode(t, sample{}.report(t)))
	swap := func(old, new string) string {
		bad := strings.Replace(good, old, new, 1)
		if bad == good {
			t.Fatalf("%q is not in the report", old)
		}
		return bad
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "ends in the middle"},
		{"no JSON", "PK\x03\x04", "not an Outrigger report"},
		{"an array", "[]", "not an Outrigger report"},
		{"another thing's JSON", `{"apiVersion":"v1","kind":"Pod"}`, "not an Outrigger report: it begins with \"apiVersion\""},
		{"another schema", swap(SchemaVersion, "example.com/v1"), "its schema is \"example.com/v1\""},
		{"a newer minor", swap(SchemaVersion, schemaPrefix+"1.99"), "reads outrigger.dev/report/v1.0 to outrigger.dev/report/v1.5"},
		{"a newer major", swap(SchemaVersion, schemaPrefix+"2.0"), "a newer one"},
		{"an unknown field", swap(`"verdict":`, `"colour":1,"verdict":`), "colour"},
		{"an unknown field of a case", swap(`"rule":"not-asked"`, `"rule":"not-asked","colour":1`), "colour"},
		{"a field twice", swap(`"verdict":`, `"schema":"`+SchemaVersion+`","verdict":`), "twice"},
		{"something after it", good + "{}", "something follows"},
		{"no cases", strings.Split(good, `,`+"\n"+`"cases"`)[0] + "}", "it has no cases"},
		{"an index out of range", swap(`"values":[0,`, `"values":[9,`), "no value of index 9"},
		{"a run out of range", swap(`"run":0`, `"run":7`), "no run of index 7"},
		{"an unknown rule", swap(`"rule":"not-asked"`, `"rule":"x"`), `no rule "x"`},
		{"another verdict than its cases'", swap(`"status":"pass"`, `"status":"fail"`), "and what it holds makes it not-conformant (exit 1"},
		{"a case twice", swap("annotation=absent,never=matches", "annotation=absent,never=absent"), "not in order, or twice"},
		{"gzip cut short", gzipped(t, good)[:200], "ends in the middle"},
	} {
		_, err := Decode(strings.NewReader(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	for n := 0; n < len(good)-2; n += 997 { // cut anywhere
		if _, err := Decode(strings.NewReader(good[:n])); err == nil {
			t.Fatalf("a report cut at byte %d of %d is read", n, len(good))
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.gz")
	r, err := Decode(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(path, r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A fullDisk takes so many bytes and no more.
type fullDisk struct {
	w    io.Writer
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if len(p) > d.room {
		n, _ := d.w.Write(p[:d.room])
		d.room = 0
		return n, syscall.ENOSPC
	}
	d.room -= len(p)
	return d.w.Write(p)
}

// Wherever a rendering fails, the error comes through: nobody may take half a report for a whole one.
func TestRenderersPassOnAFullDisk(t *testing.T) {
	r, baseline := threeRuns(t)
	for _, rd := range Renderers {
		var whole bytes.Buffer
		o := Options{Baseline: baseline}
		if err := rd.Render(&whole, r, o); err != nil {
			t.Fatal(err)
		}
		for _, room := range []int{0, 1, whole.Len() / 2, whole.Len() - 1} {
			if err := rd.Render(&fullDisk{io.Discard, room}, r, o); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("%s with room for %d of %d bytes: %v", rd.Name, room, whole.Len(), err)
			}
		}
	}
}

// The real thing: the kernel refuses to let the file grow, at many a byte. What was there before is still there, and
// nothing else is.
func TestWriteOnAFullDiskKeepsTheOldReport(t *testing.T) {
	if dir := os.Getenv("OUTRIGGER_TEST_FULL_DISK"); dir != "" {
		writeWithLimit(t, dir)
		return
	}
	dir := t.TempDir()
	old := encode(t, sample{}.report(t))
	if err := os.WriteFile(filepath.Join(dir, "r.json"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	whole := len(encode(t, sample{bug: emptyIsTrue}.report(t)))
	for _, limit := range []int{1, 4096, whole / 2, whole - 1} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriteOnAFullDiskKeepsTheOldReport$")
		cmd.Env = append(os.Environ(), "OUTRIGGER_TEST_FULL_DISK="+dir, "OUTRIGGER_TEST_LIMIT="+strconv.Itoa(limit))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("limit %d: %v\n%s", limit, err, out)
		}
		got, err := os.ReadFile(filepath.Join(dir, "r.json"))
		if err != nil || !bytes.Equal(got, old) {
			t.Errorf("limit %d: the old report is gone or changed (%v)", limit, err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("limit %d leaves %v", limit, files)
		}
	}
}

func writeWithLimit(t *testing.T, dir string) {
	limit, err := strconv.Atoi(os.Getenv("OUTRIGGER_TEST_LIMIT"))
	if err != nil {
		t.Fatal(err)
	}
	r := sample{bug: emptyIsTrue}.report(t)
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(limit), Max: uint64(limit)}); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "r.json"), r); !errors.Is(err, syscall.EFBIG) {
		t.Fatalf("the report of more than %d bytes was written: %v", limit, err)
	}
}

func TestWriteWhereNothingCanBeWritten(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Write(filepath.Join(blocked, "r.json"), sample{}.report(t))
	if err == nil || !strings.Contains(err.Error(), "make its folder") {
		t.Errorf("a file where the folder should be: %v", err)
	}
	boom := errors.New("boom")
	if err := WriteFile(filepath.Join(dir, "x"), func(w io.Writer) error { fmt.Fprint(w, "half"); return boom }); !errors.Is(err, boom) {
		t.Errorf("an error of the renderer: %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

// Whatever bytes come: an error or a sound report, which is then written and read again as it is.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, small(f)))
	f.Add([]byte(`{"schema":"outrigger.dev/report/v1.0","verdict":{},"runs":[],"tables":[],"cases":[]}`))
	f.Add([]byte(`{"cases":[{"values":[70000]}]}`))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		text := encode(t, r)
		again, err := Decode(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		if !bytes.Equal(text, encode(t, again)) {
			t.Fatal("writing what was read gives something else")
		}
		for _, rd := range Renderers { // none may fall over what Check lets through
			if rd.Name == "html" {
				newPageData(r, again, Compare(again, r, CompareOptions{}), r.sharedDescriptions()) // the rest of it is slow, and the same every time
			} else if err := rd.Render(io.Discard, r, Options{Baseline: again}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
