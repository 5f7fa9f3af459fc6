package root

import (
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// node is a file, a directory or a link of a tree held in memory.
type node struct {
	children map[string]*node // directories only
	data     string
	link     string
	problem  error // why the content is not there
}

func newDir() *node { return &node{children: map[string]*node{}} }

// maxLinks is how many links one path may pass, as in the kernel
// (path_resolution(7)).
const maxLinks = 40

// put makes n the entry at name, with the directories above it. It reports
// false where a part of the path is something else than a directory.
func (top *node) put(name string, n *node) bool {
	at := top
	parts := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	for _, part := range parts[:len(parts)-1] {
		next := at.children[part]
		if next == nil {
			next = newDir()
			at.children[part] = next
		}
		if next.children == nil {
			return false
		}
		at = next
	}
	last := parts[len(parts)-1]
	if last == "" {
		return n.children != nil // the top itself
	}
	if old := at.children[last]; old != nil && (old.children != nil) != (n.children != nil) {
		return false
	} else if old != nil && n.children != nil {
		return true
	}
	at.children[last] = n
	return true
}

// walk resolves name from the top, through links, and gives the node with the
// path of directories that leads to it.
func (top *node) walk(name string, follow bool) (*node, error) {
	parts := strings.Split(name, "/")
	stack := []*node{top}
	links := 0
	for i := 0; i < len(parts); i++ {
		switch part := parts[i]; part {
		case "", ".":
		case "..":
			if len(stack) == 1 {
				return nil, ErrOutside
			}
			stack = stack[:len(stack)-1]
		default:
			at := stack[len(stack)-1]
			if at.children == nil {
				return nil, syscall.ENOTDIR
			}
			next := at.children[part]
			if next == nil {
				return nil, fs.ErrNotExist
			}
			if next.link == "" || (!follow && i == len(parts)-1) {
				stack = append(stack, next)
				continue
			}
			if links++; links > maxLinks {
				return nil, syscall.ELOOP
			}
			if strings.HasPrefix(next.link, "/") {
				return nil, ErrOutside
			}
			parts = append(strings.Split(next.link, "/"), parts[i+1:]...)
			i = -1
		}
	}
	return stack[len(stack)-1], nil
}

// FromFiles is a root held in memory: paths and contents. A content that
// starts with "-> " is a symbolic link. It serves tests and examples.
func FromFiles(files map[string]string) *Root {
	top := newDir()
	for name, content := range files {
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			top.put(name, &node{link: target})
		} else {
			top.put(name, &node{data: content})
		}
	}
	return &Root{Dir: &memDir{top: top, path: "/"}, Name: "memory"}
}

// memDir is a directory of a tree in memory. Paths are resolved from the top
// each time, which memory makes cheap.
type memDir struct {
	top  *node
	path string
}

func (d *memDir) Path() string            { return d.path }
func (d *memDir) Close() error            { return nil }
func (d *memDir) join(name string) string { return path.Join(d.path, name) }
func (d *memDir) full(name string) string { return d.path + "/" + name } // unclean: ".." acts after links

func (d *memDir) Open(name string) (Dir, error) {
	n, err := d.top.walk(d.full(name), true)
	if err == nil && n.children == nil {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", d.join(name), err)
	}
	return &memDir{d.top, d.join(name)}, nil
}

func (d *memDir) ReadFile(name string) (string, error) {
	n, err := d.top.walk(d.full(name), true)
	switch {
	case err != nil:
	case n.children != nil:
		err = syscall.EISDIR
	default:
		err = n.problem
	}
	if err != nil {
		return "", pathError("open", d.join(name), err)
	}
	return n.data, nil
}

func (d *memDir) ReadHead(name string, n int) (string, error) {
	data, err := d.ReadFile(name)
	return data[:min(n, len(data))], err
}

func (d *memDir) Names() ([]string, error) {
	n, err := d.top.walk(d.path, true)
	if err != nil {
		return nil, pathError("open", d.path, err)
	}
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	return names, nil
}

func (d *memDir) ReadLink(name string) (string, error) {
	n, err := d.top.walk(d.full(name), false)
	if err == nil && n.link == "" {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", pathError("readlink", d.join(name), err)
	}
	return n.link, nil
}
