package upload

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/upload/patterns"
)

const (
	// maxEncoders bounds the goroutines that encode: cutting the file takes about a third of the time of encoding it.
	maxEncoders = 4
	// maxKept is the memory of a chunk that is used again.
	maxKept = 1 << 20
)

// A pipeline encodes chunks side by side, while the loader cuts further ones and the copier sends earlier ones.
type pipeline struct {
	encoders int // 0 until it has begun
	work     chan *chunk
	ended    sync.WaitGroup
	// pending are the chunks that are not sent yet, in the order of the file.
	pending []*chunk
	free    chan *chunk
}

func newPipeline() pipeline {
	return pipeline{work: make(chan *chunk, maxEncoders), free: make(chan *chunk, 4*maxEncoders)}
}

// begin starts the encoders, each with a copy of the set, because a set is not safe for concurrent use.
func (p *pipeline) begin(set *patterns.Set) {
	p.encoders = min(max(runtime.GOMAXPROCS(0)-1, 1), maxEncoders)
	for range p.encoders {
		own := set.Clone()
		p.ended.Go(func() {
			for next := range p.work {
				next.match(own)
				next.write(next.format)
				close(next.isReady)
			}
		})
	}
}

// end waits for the encoders.
func (p *pipeline) end() {
	close(p.work)
	p.ended.Wait()
}

// newChunk returns an empty chunk.
func (p *pipeline) newChunk() *chunk {
	select {
	case used := <-p.free:
		used.clear()
		return used
	default:
		return new(chunk)
	}
}

// release is called when a chunk has been sent.
func (p *pipeline) release(sent *chunk) {
	if cap(sent.texts)+cap(sent.rows)+8*cap(sent.ends) > maxKept {
		return
	}
	select {
	case p.free <- sent:
	default:
	}
}

// pass has the chunk that was read encoded, and sends the first of those that are pending when there are enough.
func (l *loader) pass(ctx context.Context) error {
	if l.problems.isRefused() {
		return nil
	}
	if l.step.id == 0 {
		return l.passFirst(ctx)
	}
	if l.table.chunk.width > len(l.step.columns) {
		if err := l.widen(ctx); err != nil {
			return err
		}
	}
	if l.table.chunk.width > 0 {
		next := l.takeChunk()
		next.format = l.format
		next.isReady = make(chan struct{})
		l.pipeline.pending = append(l.pipeline.pending, next)
		l.pipeline.work <- next
	}
	for len(l.pipeline.pending) > l.pipeline.encoders {
		if err := l.sendFirst(ctx); err != nil {
			return err
		}
	}
	return nil
}

// passFirst begins the import: the first chunk suggests the types.
func (l *loader) passFirst(ctx context.Context) error {
	l.awaitColumns()
	first := l.takeChunk()
	first.match(l.table.ladder.set)
	l.table.merge(first.fits)
	if err := l.begin(ctx); err != nil {
		return err
	}
	l.pipeline.begin(l.table.ladder.set)
	if first.width == 0 {
		return nil
	}
	return l.send(ctx, first)
}

func (l *loader) takeChunk() *chunk {
	taken := l.table.chunk
	taken.seen = append(taken.seen[:0], l.table.fits...)
	l.table.chunk = l.pipeline.newChunk()
	return taken
}

// flush sends all that was read.
func (l *loader) flush(ctx context.Context) error {
	if err := l.pass(ctx); err != nil {
		return err
	}
	for len(l.pipeline.pending) > 0 && !l.problems.isRefused() {
		if err := l.sendFirst(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sendFirst sends the first pending chunk. If a value does not fit its column, the column is widened first.
func (l *loader) sendFirst(ctx context.Context) error {
	first := l.pipeline.pending[0]
	l.pipeline.pending = slices.Delete(l.pipeline.pending, 0, 1)
	<-first.isReady
	l.table.merge(first.fits)
	if l.table.isMisfit() {
		if err := l.widen(ctx); err != nil {
			return err
		}
	}
	return l.send(ctx, first)
}

// send sends a chunk, which is encoded again if its format is no longer that of the COPY.
func (l *loader) send(ctx context.Context, next *chunk) error {
	if next.format != l.format {
		next.grow(len(l.step.columns))
		next.write(l.format)
	}
	if !next.isWritten {
		// The server reads the values.
		if err := l.endCopy(); err != nil {
			return err
		}
		l.format = &format{statement: l.step.copy}
		next.write(l.format)
	}
	if l.copy == nil {
		l.copy = startCopy(ctx, l.conn, l.format, l.pipeline.release)
	}
	if err := l.copy.send(next); err != nil {
		return fmt.Errorf("copy: %w", explainCopy(err, l.copied))
	}
	return nil
}

// end stops what still runs, after an error too.
func (l *loader) end() {
	if l.copy != nil {
		l.copy.abort()
	}
	l.pipeline.end()
	if l.zip != nil {
		l.zip.chosen = nil
	}
	// Of what is only read, no error matters any more.
	_ = l.closeAll()
}
