//go:build lab

package lab

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const childEnv = "BERTH_LAB_CHILD"

// Started as its own child, the test is one of the programs in Go.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	child, ok := children[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such child:", os.Args[1])
		os.Exit(2)
	}
	if err := child(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// children are programs in Go; the first two serve the others.
var children = map[string]func(args []string) error{
	"slow":   slow,
	"load":   load,
	"busy":   busy,
	"mutex":  mutex,
	"ticker": ticker,
	"server": server,
}

// slow is a server that takes the number of milliseconds to answer that it is
// asked for: "20\n" at its first port, GET /20 at its second.
func slow([]string) error {
	lines, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(lines.Addr().(*net.TCPAddr).Port, web.Addr().(*net.TCPAddr).Port)
	go func() {
		_ = http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(milliseconds(strings.TrimPrefix(r.URL.Path, "/")))
			_, _ = io.WriteString(w, "ok\n")
		}))
	}()
	for {
		c, err := lines.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				time.Sleep(milliseconds(in.Text()))
				if _, err := io.WriteString(c, "ok\n"); err != nil {
					return
				}
			}
		}()
	}
}

func milliseconds(text string) time.Duration {
	ms, _ := strconv.ParseFloat(text, 64)
	return time.Duration(ms * float64(time.Millisecond))
}

// load asks a server over N connections, RATE times a second in all, at random
// times (Poisson on each connection). Arguments: http|redis PORT N RATE. It
// prints each second how many answers it had.
func load(args []string) error {
	request := "GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
	answer := func(r *bufio.Reader) error {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	if args[0] == "redis" {
		request = "*2\r\n$4\r\nINCR\r\n$3\r\nlab\r\n"
		answer = func(r *bufio.Reader) error {
			_, err := r.ReadString('\n')
			return err
		}
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	rate, err := strconv.ParseFloat(args[3], 64)
	if err != nil {
		return err
	}
	var served atomic.Int64
	failed := make(chan error, n)
	for range n {
		c, err := net.Dial("tcp", "127.0.0.1:"+args[1])
		if err != nil {
			return err
		}
		go func() {
			in := bufio.NewReader(c)
			for next := time.Now(); ; served.Add(1) {
				next = next.Add(time.Duration(rand.ExpFloat64() * float64(n) / rate * float64(time.Second)))
				time.Sleep(time.Until(next))
				if _, err := io.WriteString(c, request); err != nil {
					failed <- err
					return
				}
				if err := answer(in); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	for each := time.Tick(time.Second); ; {
		select {
		case <-each:
			fmt.Println("served", served.Swap(0))
		case err := <-failed:
			return err
		}
	}
}

var sink atomic.Uint64

// busy computes in N goroutines.
func busy(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		go func() {
			for x := uint64(1); ; x = x*6364136223846793005 + 1 {
				if x&0xffffff == 1 {
					sink.Add(x)
				}
			}
		}()
	}
	select {}
}

// mutex has N goroutines take turns: 50 µs of computing inside, 10 µs outside.
// It prints each second which share of their time they waited, by the runtime.
func mutex(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	compute := func(d time.Duration) {
		for from := time.Now(); time.Since(from) < d; {
		}
	}
	var turn sync.Mutex
	from := time.Now()
	for range n {
		go func() {
			for {
				turn.Lock()
				compute(50 * time.Microsecond)
				turn.Unlock()
				compute(10 * time.Microsecond)
			}
		}()
	}
	waited := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	for range time.Tick(time.Second) {
		metrics.Read(waited)
		fmt.Printf("waited %.3f\n", waited[0].Value.Float64()/float64(n)/time.Since(from).Seconds())
	}
	return nil
}

// ticker waits, and wakes up once a second.
func ticker([]string) error {
	for range time.Tick(time.Second) {
		sink.Add(1)
	}
	return nil
}

// server answers each request after it has asked another server. Arguments:
// PORT UPSTREAM.
func server(args []string) error {
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	return http.ListenAndServe("127.0.0.1:"+args[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		from, err := client.Get("http://127.0.0.1:" + args[1] + "/20")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer from.Body.Close()
		_, _ = io.Copy(w, from.Body)
	}))
}

// slow starts that server on the far CPU and returns its ports.
func (b *bench) slow() (lines, web string) {
	b.Helper()
	p := b.child(b.far, "slow")
	b.until("the slow server names no ports", func() bool { return strings.HasSuffix(p.text(), "\n") })
	ports := strings.Fields(p.text())
	return ports[0], ports[1]
}

// load starts a load on the far CPU.
func (b *bench) load(kind, port string, connections, rate int) *process {
	b.Helper()
	return b.child(b.far, "load", kind, port, strconv.Itoa(connections), strconv.Itoa(rate))
}
