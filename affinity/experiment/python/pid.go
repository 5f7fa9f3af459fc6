package python

// PID is the number of the interpreter's process. What it starts for a command
// are descendants of it, and have been waited for when the command is answered.
func (s *Session) PID() int { return s.cmd.Process.Pid }
