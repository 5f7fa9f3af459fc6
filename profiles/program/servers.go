//go:build linux

package program

import (
	"bufio"
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"berth/probe/tasks"
)

// servers are programs that are known by the name of their file, of the script
// that they run, or by the title that they give themselves.
var servers = []string{
	"gunicorn", "uvicorn", "hypercorn", "celery", "uwsgi", "nginx", "haproxy", "apache2", "httpd", "lighttpd", "php-fpm", "postgres", "pgbouncer",
	"mysqld", "mariadbd", "mongod", "redis-server", "valkey-server", "memcached", "envoy", "caddy", "traefik", "varnishd", "puma", "unicorn",
}

// titles are names that servers have in their titles only.
var titles = map[string]string{"celeryd": "celery", "uWSGI": "uwsgi", "gunicorn3": "gunicorn"}

// known is the server that a word names; empty: none.
func known(word string) string {
	word = strings.TrimPrefix(filepath.Base(strings.TrimSuffix(word, ":")), "[")
	if s := titles[word]; s != "" {
		return s
	}
	// Debian has its version behind php-fpm's name.
	for _, w := range []string{word, strings.TrimRight(word, "0123456789.")} {
		if slices.Contains(servers, w) && (w == word || w == "php-fpm") {
			return w
		}
	}
	return ""
}

// server is which of them runs; empty: none.
func server(args []string, name string) string {
	if len(args) == 0 {
		return known(name)
	}
	// A title, as "nginx: worker process" or "gunicorn: master [app]".
	if title, _, ok := strings.Cut(args[0], ":"); ok {
		if s := known(title); s != "" {
			return s
		}
	}
	if words := strings.Fields(args[0]); len(words) > 0 {
		if s := known(words[0]); s != "" {
			return s
		}
	}
	if s := serverOfScript(args); s != "" {
		return s
	}
	return known(name)
}

// mostOptions is how many arguments an interpreter may have before its script.
const mostOptions = 6

// serverOfScript looks behind an interpreter: python3 /usr/bin/gunicorn, python3
// -m uvicorn.
func serverOfScript(args []string) string {
	if !interprets(args[0]) {
		return ""
	}
	for i := 1; i < len(args) && i < mostOptions; i++ {
		switch a := args[i]; {
		case a == "-c":
			return ""
		case a == "-m" && i+1 < len(args):
			module, _, _ := strings.Cut(args[i+1], ".")
			return known(module)
		case a == "-X", a == "-W":
			i++
		case strings.HasPrefix(a, "-"):
		default:
			return known(a)
		}
	}
	return ""
}

// interprets reports whether a program runs scripts that are servers.
func interprets(program string) bool {
	name := filepath.Base(program)
	return strings.HasPrefix(name, "python") || strings.HasPrefix(name, "pypy") || strings.HasPrefix(name, "ruby")
}

// workers adds the number of worker processes of a master whose command line
// does not tell it.
func (x *Program) workers(p tasks.Proc, is *tasks.Process) {
	if len(is.Args) == 0 {
		return
	}
	switch title := is.Args[0]; {
	case strings.HasPrefix(title, "nginx: master"):
		x.nginxWorkers(p, is.PID, title)
		x.count(p, is.PID, "worker_processes", "nginx: worker process")
	case strings.HasPrefix(title, "gunicorn: master"):
		if !slices.ContainsFunc(x.Settings, func(s Setting) bool { return s.Name == "--workers" || s.Name == "WEB_CONCURRENCY" }) {
			x.count(p, is.PID, "--workers", "gunicorn: worker")
		}
	}
}

// count adds the number of children with such a title.
func (x *Program) count(p tasks.Proc, pid int, name, title string) {
	all, err := p.Processes()
	if err != nil {
		return
	}
	n := 0
	for _, c := range all.Children(pid) {
		if len(c.Args) > 0 && strings.HasPrefix(c.Args[0], title) {
			n++
		}
	}
	if n > 0 {
		x.Settings = append(x.Settings, Setting{name, strconv.Itoa(n), "its worker processes, counted"})
	}
}

// nginxFiles are where nginx looks for its settings in common builds.
var nginxFiles = []string{"/etc/nginx/nginx.conf", "/usr/local/nginx/conf/nginx.conf", "/usr/local/etc/nginx/nginx.conf"}

// nginxWorkers adds what nginx was told: by -g in its command line, which the
// title of the master repeats, or by its file, which -c names.
func (x *Program) nginxWorkers(p tasks.Proc, pid int, title string) {
	command := strings.TrimPrefix(title, "nginx: master process ")
	files := nginxFiles
	if words := strings.Fields(command); slices.Contains(words, "-c") {
		files = nil
		if i := slices.Index(words, "-c"); i+1 < len(words) && filepath.IsAbs(words[i+1]) {
			files = []string{words[i+1]}
		}
	}
	if _, directives, ok := strings.Cut(command, "-g"); ok {
		if value := workerProcesses([]byte(directives)); value != "" {
			x.Settings = append(x.Settings, Setting{"worker_processes", value, "command line"})
			return
		}
	}
	for _, name := range files {
		// In its own root, since it may be in a container.
		data, err := p.ReadFile(strconv.Itoa(pid) + "/root" + name)
		if err != nil {
			continue
		}
		if value := workerProcesses(data); value != "" {
			x.Settings = append(x.Settings, Setting{"worker_processes", value, name})
		}
		return
	}
}

// workerProcesses is the value of that directive of nginx
// (https://nginx.org/en/docs/ngx_core_module.html); empty: it has none, or an
// included file has it.
func workerProcesses(file []byte) string {
	lines := bufio.NewScanner(bytes.NewReader(file))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		for directive := range strings.SplitSeq(line, ";") {
			if words := strings.Fields(directive); len(words) == 2 && words[0] == "worker_processes" {
				return words[1]
			}
		}
	}
	return ""
}
