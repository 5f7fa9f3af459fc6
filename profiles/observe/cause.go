//go:build linux

package observe

import (
	"time"

	"berth/profiles"
	"berth/profiles/observe/wait"
)

// shortLock parts a wait for a lock with a time-out from a pause.
const shortLock = 50 * time.Millisecond

// holds reports whether a thread that waits so may hold a lock meanwhile.
func (c cause) holds() bool { return c == disk || c == network || c == sleep || c == other }

// goes reports whether it is a Go program.
func (p *process) goes() bool { return p.program != nil && p.program.Runtime == profiles.Go }

// cause sorts what a thread was found to wait for.
func (p *process) cause(is *wait.Wait) cause {
	var kind profiles.Runtime
	if p.program != nil {
		kind = p.program.Runtime
	}
	switch is.Kind {
	case wait.Disk:
		return disk
	case wait.Network:
		switch {
		case is.Sockets == 0 && is.Listening > 0:
			return visitors
		case is.Sockets > 1 || is.Listening > 0:
			return loop
		}
		return network
	case wait.Event, wait.Wakeup:
		switch {
		case is.Own > 0 || kind == profiles.Node:
			return loop
		case is.Timed:
			return sleep
		case is.Kind == wait.Wakeup:
			return latch
		}
		return other
	case wait.Lock:
		switch {
		case !is.Timed:
			return lock
		case kind == profiles.Python && is.Timeout <= p.interval()+margin:
			return interpreter
		case is.Timeout > shortLock:
			return sleep
		}
		return lock
	case wait.Sleep:
		if kind == profiles.Go { // the runtime's own, between looks for work; a goroutine's is the network poller's
			return lock
		}
		return sleep
	case wait.Unknown:
		return unknown
	}
	return other
}

// margin allows for the time between the interpreter's look at the clock and
// ours.
const margin = time.Millisecond

// interval is the interpreter's switch interval: a thread that waits for its
// lock asks for it so often (sys.setswitchinterval).
func (p *process) interval() time.Duration {
	if p.switchInterval > 0 {
		return p.switchInterval
	}
	return 5 * time.Millisecond
}
