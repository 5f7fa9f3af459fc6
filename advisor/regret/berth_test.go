//go:build lab

package regret

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// most is the largest count that a program may be given.
const most = 64

// observation is the part of berth.observation/v1 that the lab reads.
type observation struct {
	Class    string   `json:"class"`
	Runtime  string   `json:"runtime"`
	CPUMS    *float64 `json:"cpu_ms"`
	WaitMS   *float64 `json:"wait_ms"`
	WOverC   *float64 `json:"w_over_c"`
	Evidence []string `json:"evidence"`
	Profile  *struct {
		Work struct {
			NativeMS *float64 `json:"native_ms"`
		} `json:"work"`
		Measured struct {
			Utilisation *float64 `json:"utilisation"`
		} `json:"measured"`
	} `json:"profile"`
}

// plan is the part of berth.plan/v1 that the lab reads.
type plan struct {
	Workers struct {
		Processes int `json:"processes"`
		Threads   int `json:"threads_per_process"`
	} `json:"workers"`
	Binding struct {
		Name   string `json:"name"`
		Detail string `json:"detail"`
	} `json:"binding"`
}

// advice is what berth made of a program with one worker.
type advice struct {
	seen *observation
	plan *plan
	n    int
}

// berth runs a command of berth's for a program, within its group.
func (l *lab) berth(p *program, group string, args ...string) *exec.Cmd {
	words := append([]string{l.Berth}, args...)
	if group != "" {
		words = append(within(group), words...)
	}
	cmd := exec.Command(words[0], words[1:]...)
	return cmd
}

// run runs a command in a process group of its own, for so long at most, and
// decodes what it prints.
func run(cmd *exec.Cmd, limit time.Duration, into any) error {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second
	if err := startProcess(cmd); err != nil {
		return err
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-time.After(limit):
		case <-interrupted:
		case <-over:
			return
		}
		_ = cmd.Process.Signal(os.Interrupt)
	}()
	very := time.AfterFunc(limit+20*time.Second, func() { _ = cmd.Process.Kill() })
	defer very.Stop()
	if err := cmd.Wait(); err != nil {
		text := strings.TrimSpace(said.String())
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, text[max(0, len(text)-600):])
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return nil
}

// advise observes one worker of a program, adds to the profile what its author
// knows, and asks for the count.
func (l *lab) advise(p *program, length time.Duration) (a advice, err error) {
	dir, environment, err := l.prepare(p)
	if dir != "" {
		defer os.RemoveAll(dir)
	}
	if err != nil {
		return a, err
	}
	group := ""
	if p.quota > 0 {
		if group, err = makeGroup(p.quota); err != nil {
			return a, err
		}
		defer removeGroup(group)
	}
	file := filepath.Join(dir, "profile.yaml")
	cmd := l.berth(p, group, append([]string{
		"observe", "--after", "2s", "--for", length.String(), "-o", "json", "--save", file, "--",
	}, p.command(l, 1)...)...)
	cmd.Dir, cmd.Env = dir, environment
	if p.meter == stream {
		from, to, err := os.Pipe()
		if err != nil {
			return a, err
		}
		defer from.Close()
		defer to.Close()
		cmd.Stdin = from
		go feed(to, nil)
	}
	a.seen = &observation{}
	if err := run(cmd, length+20*time.Second, a.seen); err != nil {
		return advice{}, err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return a, err
	}
	_, err = fmt.Fprintf(f, "model: %s\nlimits:\n  downstream_concurrency: %d\n", p.model, most)
	if err := errors.Join(err, f.Close()); err != nil {
		return a, err
	}
	a.plan = &plan{}
	if err := run(l.berth(p, group, "advise", file, "-o", "json"), time.Minute, a.plan); err != nil {
		a.plan = nil
		return a, err
	}
	a.n = min(most, max(1, a.plan.Workers.Processes)*max(1, a.plan.Workers.Threads))
	return a, nil
}

// goetz is nproc·(1+W/C), from what was observed.
func (a advice) goetz(nproc int) (int, bool) {
	if a.seen == nil || a.seen.WOverC == nil {
		return 0, false
	}
	return int(math.Min(most, math.Max(1, math.Round(float64(nproc)*(1+*a.seen.WOverC))))), true
}

// tune lets berth tune find a count in a time. The command that it runs is this
// test's own binary, as a meter around the program.
func (l *lab) tune(p *program, limit time.Duration, warm, window time.Duration) (int, error) {
	group := ""
	if p.quota > 0 {
		var err error
		if group, err = makeGroup(p.quota); err != nil {
			return 0, err
		}
		defer removeGroup(group)
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	where, err := json.Marshal(l)
	if err != nil {
		return 0, err
	}
	cmd := l.berth(p, group, "tune", "-n", "1.."+strconv.Itoa(most), "--metric", `rate ([0-9.e+]+)`,
		"--for", (warm + window + 300*time.Millisecond).String(), "--time", limit.String(), "-o", "json", "--", self, "{n}")
	cmd.Env = append(os.Environ(), "REGRET_METER="+p.name, "REGRET_LAB="+string(where), "WARM="+warm.String())
	var out struct {
		Best struct{ N int } `json:"best"`
	}
	if err := run(cmd, limit+30*time.Second, &out); err != nil {
		return 0, err
	}
	if out.Best.N < 1 {
		return 0, errors.New("berth tune names no best count")
	}
	return out.Best.N, nil
}
