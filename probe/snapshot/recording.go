package snapshot

import (
	"os"
	"path"
	"strings"
	"sync"

	"berth/probe/root"
)

// recording is the live root that remembers what was read from it. What
// [probe.Probe] reads is by definition what a replay needs.
type recording struct {
	mu      sync.Mutex // sources read side by side
	entries map[string]entry
}

// entry is one file, link or folder, by its path without links on the way.
type entry struct {
	data   []byte
	link   string
	folder bool
}

func newRecording() *recording { return &recording{entries: map[string]entry{}} }

func (t *recording) add(name string, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[name] = entry{data: data}
}

// real resolves the links on the way to name and remembers each, as a replay
// goes the same way. The last part is not followed.
func (t *recording) real(name string) string {
	at := "/"
	parts := strings.Split(strings.Trim(path.Clean(name), "/"), "/")
	for links := 0; len(parts) > 1; {
		next := path.Join(at, parts[0])
		target, err := os.Readlink(next)
		if err != nil || strings.HasPrefix(next, "/proc/self") { // proc/self is a folder in a replay
			at, parts = next, parts[1:]
			continue
		}
		if links++; links > 40 {
			break
		}
		if path.IsAbs(target) {
			break
		}
		t.mu.Lock()
		t.entries[next] = entry{link: target}
		t.mu.Unlock()
		parts = append(strings.Split(target, "/"), parts[1:]...)
	}
	return path.Join(append([]string{at}, parts...)...)
}

func (t *recording) top() root.Dir { return &recordingDir{Dir: root.Live().Dir, tree: t} }

type recordingDir struct {
	root.Dir
	tree *recording
}

func (d *recordingDir) record(name string, data []byte) {
	full := d.tree.real(path.Join(d.Path(), name))
	for range 40 { // the file itself may be a link
		target, err := os.Readlink(full)
		if err != nil || path.IsAbs(target) {
			break
		}
		d.tree.mu.Lock()
		d.tree.entries[full] = entry{link: target}
		d.tree.mu.Unlock()
		full = d.tree.real(path.Join(path.Dir(full), target))
	}
	d.tree.mu.Lock()
	defer d.tree.mu.Unlock()
	if old := d.tree.entries[full]; len(old.data) < len(data) || old.data == nil { // a head does not replace the whole
		d.tree.entries[full] = entry{data: data}
	}
}

func (d *recordingDir) Open(name string) (root.Dir, error) {
	inner, err := d.Dir.Open(name)
	if err != nil {
		return nil, err
	}
	d.tree.addFolder(inner.Path()) // an empty one is an answer too
	return &recordingDir{Dir: inner, tree: d.tree}, nil
}

func (d *recordingDir) ReadFile(name string) (string, error) {
	data, err := d.Dir.ReadFile(name)
	if err == nil {
		d.record(name, []byte(data))
	}
	return data, err
}

func (d *recordingDir) ReadHead(name string, n int) (string, error) {
	data, err := d.Dir.ReadHead(name, n)
	if err == nil {
		d.record(name, []byte(data))
	}
	return data, err
}

func (d *recordingDir) ReadLink(name string) (string, error) {
	target, err := d.Dir.ReadLink(name)
	if err == nil {
		full := d.tree.real(path.Join(d.Path(), name))
		d.tree.mu.Lock()
		d.tree.entries[full] = entry{link: target}
		d.tree.mu.Unlock()
	}
	return target, err
}

// addFolder remembers a folder by its path without links.
func (t *recording) addFolder(name string) {
	full := t.real(path.Join(name, "inside"))
	t.mu.Lock()
	defer t.mu.Unlock()
	if dir := path.Dir(full); dir != "/" {
		t.entries[dir] = entry{folder: true}
	}
}

// names lists a folder's plain files.
func (t *recording) names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != "uevent" {
			out = append(out, e.Name())
		}
	}
	return out
}

// numbered lists the entries of a folder that are a prefix and a number.
func (t *recording) numbered(dir, prefix string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		if digits, ok := strings.CutPrefix(e.Name(), prefix); ok && digits != "" && strings.Trim(digits, "0123456789") == "" {
			out = append(out, e.Name())
		}
	}
	return out
}

// readAll records those of the named files that can be read.
func (t *recording) readAll(dir string, names ...string) {
	at, err := t.top().Open(dir)
	if err != nil {
		return
	}
	defer at.Close()
	for _, name := range names {
		_, _ = at.ReadFile(name) // a file that is missing here is missing there
	}
}
