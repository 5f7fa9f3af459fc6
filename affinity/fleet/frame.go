//go:build linux

package fleet

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
)

// Answers of many nodes can share one stream if each comes in frames: lines of
//
//	berth-answer/1 NODE ANSWER PIECE/PIECES SUM DATA
//
// NODE is escaped as in a URL, ANSWER tells two answers of one node apart, SUM
// is the CRC-32 (IEEE) of the piece in hex, and DATA is the piece in base64. The
// pieces together are the document, compressed by DEFLATE (RFC 1951). A line has
// at most 1000 bytes: a Slurm step hands lines of up to 1024 on whole, whatever
// other tasks print (MAX_MSG_LEN in slurmstepd).
const frameMark = "berth-answer/1 "

// framePiece is in bytes, of which base64 makes 4/3.
const framePiece = 540

// mostPieces bounds what is held of one answer.
const mostPieces = mostDocument / framePiece

// WriteFrames writes a node's document in frames.
func WriteFrames(w io.Writer, node string, document []byte) error {
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(document); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	head := frameMark + url.PathEscape(node) + " " + strconv.FormatUint(rand.Uint64(), 36)
	if len(head) > 220 {
		return fmt.Errorf("the name %.40q… is too long for a node", node)
	}
	data := packed.Bytes()
	pieces := (len(data) + framePiece - 1) / framePiece
	for i := range pieces {
		piece := data[i*framePiece : min(len(data), (i+1)*framePiece)]
		if _, err := fmt.Fprintf(w, "%s %d/%d %08x %s\n", head, i+1, pieces, crc32.ChecksumIEEE(piece), base64.StdEncoding.EncodeToString(piece)); err != nil {
			return err
		}
	}
	return nil
}

// What programs print comes from nodes in lines of
//
//	berth-output/1 NODE STREAM NUMBER SUM DATA
//
// in which STREAM is 1 or 2 and NUMBER counts from 1, so that a missing one is
// noticed. DATA are whole lines as far as they fit.
const outputMark = "berth-output/1 "

// outputPiece is in bytes.
const outputPiece = framePiece

func writeOutput(w io.Writer, node string, stream, number int, piece []byte) error {
	_, err := fmt.Fprintf(w, "%s%s %d %d %08x %s\n", outputMark, url.PathEscape(node), stream, number, crc32.ChecksumIEEE(piece), base64.StdEncoding.EncodeToString(piece))
	return err
}

// output is a piece of what programs on a node have printed.
type output struct {
	node           string
	stream, number int
	text           []byte
}

// readOutput reads what stands after the mark; false: that is none.
func readOutput(rest string) (o output, ok bool) {
	fields := strings.Fields(rest)
	if len(fields) != 5 {
		return o, false
	}
	var errs [4]error
	o.node, errs[0] = url.PathUnescape(fields[0])
	o.stream, errs[1] = strconv.Atoi(fields[1])
	o.number, errs[2] = strconv.Atoi(fields[2])
	o.text, errs[3] = checked(fields[3], fields[4])
	return o, errors.Join(errs[:]...) == nil && o.node != "" && (o.stream == 1 || o.stream == 2) && o.number > 0
}

// checked decodes a piece and holds it against its sum.
func checked(sum, data string) ([]byte, error) {
	piece, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, err
	}
	want, err := strconv.ParseUint(sum, 16, 32)
	if err != nil || len(sum) != 8 || crc32.ChecksumIEEE(piece) != uint32(want) {
		return nil, errors.New("its sum is another")
	}
	return piece, nil
}

// frames puts answers together again. What is held at a time is the compressed
// answers that have begun and not ended.
type frames struct {
	answer func(Answer)
	begun  map[string]*partial // by node and answer
	whole  map[string]bool     // nodes of which one is
	noise  string              // the first line that is no frame
	output func(output)        // takes pieces of output; nil: they are noise
}

type partial struct {
	node   string
	pieces [][]byte
	have   int
}

func newFrames(answer func(Answer)) *frames {
	return &frames{answer: answer, begun: map[string]*partial{}, whole: map[string]bool{}}
}

// line takes in one line. What is no frame is passed over: it is some program's
// that the task's node runs beside berth.
func (f *frames) line(text string) {
	if rest, ok := strings.CutPrefix(text, outputMark); ok && f.output != nil {
		if o, ok := readOutput(rest); ok {
			f.output(o)
		}
		return
	}
	rest, ok := strings.CutPrefix(text, frameMark)
	if !ok {
		if f.noise == "" {
			f.noise = shown(text)
		}
		return
	}
	fields := strings.Fields(rest)
	if len(fields) != 5 {
		return // a part of one: then the answer has a hole, which is told of
	}
	node, err := url.PathUnescape(fields[0])
	number, count, _ := strings.Cut(fields[2], "/")
	n, err1 := strconv.Atoi(number)
	of, err2 := strconv.Atoi(count)
	piece, err3 := checked(fields[3], fields[4])
	if errors.Join(err, err1, err2, err3) != nil || node == "" || n < 1 || n > of || of > mostPieces {
		return
	}
	key := fields[0] + " " + fields[1]
	p := f.begun[key]
	if p == nil {
		p = &partial{node: strings.Clone(node), pieces: make([][]byte, of)}
		f.begun[key] = p
	}
	if n > len(p.pieces) || p.pieces[n-1] != nil {
		return
	}
	p.pieces[n-1] = piece
	if p.have++; p.have < len(p.pieces) {
		return
	}
	delete(f.begun, key)
	f.whole[p.node] = true
	document, err := unpack(bytes.Join(p.pieces, nil))
	if err != nil {
		f.answer(Answer{Node: p.node, Trouble: trouble(Garbage, "its answer cannot be unpacked: %v", err)})
		return
	}
	f.answer(Answer{Node: p.node, Document: document})
}

func unpack(packed []byte) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), mostDocument+1))
	if err == nil && len(text) > mostDocument {
		err = fmt.Errorf("it is larger than %d MiB", mostDocument>>20)
	}
	return text, err
}

// end tells of the answers that have a hole.
func (f *frames) end() {
	for _, p := range f.begun {
		if !f.whole[p.node] {
			f.whole[p.node] = true
			f.answer(Answer{Node: p.node, Trouble: trouble(BrokeOff, "its answer broke off: %d of %d pieces came", p.have, len(p.pieces))})
		}
	}
}
