//go:build linux

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// stage is a terminal on which each picture replaces the one before. A nil
// stage is none: it shows nothing, and can still wait.
type stage struct {
	out      *os.File
	keyboard *unix.Termios // as it was; nil: not ours to change
	keys     chan byte
	signals  chan os.Signal
	draw     func(s screen, lines int) string // the latest picture
}

const (
	enterStage = "\x1b[?1049h\x1b[?25l\x1b[?7l" // a screen of its own, without the cursor; long lines are cut
	leaveStage = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	// While a picture is drawn, terminals that know of it show the one before.
	beginDrawing = "\x1b[?2026h\x1b[H"
	endDrawing   = "\x1b[J\x1b[?2026l"
)

// openStage gives nil where the output is no terminal that can be drawn on, or
// is for now another program's.
func openStage(w io.Writer) *stage {
	out, ok := under(w).(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	if group, err := unix.IoctlGetInt(int(out.Fd()), unix.TIOCGPGRP); err == nil && group != unix.Getpgrp() {
		return nil
	}
	s := &stage{out: out, signals: make(chan os.Signal, 4)}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		s.keys = make(chan byte)
		go func() {
			var key [1]byte
			for {
				if n, err := os.Stdin.Read(key[:]); n == 0 || err != nil {
					return
				}
				s.keys <- key[0]
			}
		}()
	}
	signal.Notify(s.signals, unix.SIGWINCH, unix.SIGTSTP)
	s.enter()
	return s
}

// enter takes the terminal over. Keys come one by one and unseen; those that
// make signals still do.
func (s *stage) enter() {
	if s.keys != nil {
		if was, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil {
			now := *was
			now.Lflag &^= unix.ICANON | unix.ECHO
			now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
			if unix.IoctlSetTermios(int(os.Stdin.Fd()), unix.TCSETS, &now) == nil {
				s.keyboard = was
			}
		}
	}
	_, _ = io.WriteString(s.out, enterStage)
}

// leave gives the terminal back as it was.
func (s *stage) leave() {
	_, _ = io.WriteString(s.out, leaveStage)
	if s.keyboard != nil {
		_ = unix.IoctlSetTermios(int(os.Stdin.Fd()), unix.TCSETS, s.keyboard)
		s.keyboard = nil
	}
}

func (s *stage) close() {
	if s != nil {
		signal.Stop(s.signals)
		s.leave()
	}
}

// show draws a picture. What is over the lines of the terminal is cut off.
func (s *stage) show(draw func(s screen, lines int) string) {
	if s == nil {
		return
	}
	s.draw = draw
	_, lines, err := term.GetSize(int(s.out.Fd()))
	if err != nil || lines < 1 {
		lines = 24
	}
	text := strings.Split(strings.TrimSuffix(visible(draw(screenOf(s.out), lines)), "\n"), "\n")
	text = text[:min(len(text), lines)]
	// A line is written over, and what it leaves of the old one is erased.
	_, _ = io.WriteString(s.out, beginDrawing+strings.Join(text, "\x1b[K\r\n")+"\x1b[K"+endDrawing)
}

// suspend gives the terminal back until the process is continued.
func (s *stage) suspend() {
	s.leave()
	runtime.LockOSThread() // the thread that stops itself is stopped before it goes on
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
	runtime.UnlockOSThread()
	s.enter()
}

// wait waits for a time, and reports whether to go on.
func (s *stage) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var keys chan byte
	var signals chan os.Signal
	if s != nil {
		keys, signals = s.keys, s.signals
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case key := <-keys:
			if key == 'q' || key == 'Q' {
				return false
			}
		case sig := <-signals:
			if sig == unix.SIGTSTP {
				s.suspend()
			}
			s.show(s.draw)
		}
	}
}
