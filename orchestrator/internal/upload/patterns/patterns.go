// Package patterns matches a text against many regular expressions at once.
//
// The expressions are compiled into one deterministic automaton. It reads each byte of a text once and then
// knows every expression that accepts the text, as RE2 does for a set (Russ Cox, "Regular Expression Matching
// in the Wild", 2010; the subset construction is Rabin and Scott's, 1959). The standard library's regexp
// matches one expression at a time, and is more than ten times too slow for use with a COPY.
package patterns

import (
	"errors"
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"unicode"
)

// MaxPatterns is how many patterns a Set can have.
const MaxPatterns = 64

// A Pattern is a regular expression of ASCII characters that must match a whole text.
type Pattern struct {
	// Accepts begins with ^ and ends with $. When it is empty, the pattern accepts every text.
	Accepts string
	// MaxLength is the length in bytes up to which a text is accepted; 0 means no limit.
	MaxLength int
}

// Mask has bit i set when pattern i accepts the text.
type Mask uint64

// A Set matches texts against its patterns. It is not safe for concurrent use, because it creates states of the
// automaton when a text first reaches them.
type Set struct {
	programs []*syntax.Prog
	// always are the patterns that accept every text.
	always Mask
	// byLength are the patterns that accept a text of that length; the last element is for all longer texts.
	byLength []Mask

	// next[state<<7|byte] is the state that follows on a byte.
	next    []int32
	accepts []Mask
	// threads are, for each state, the instructions of all programs in that state.
	threads [][]thread
	states  map[string]int32
}

// A thread is a position in one of the programs.
type thread struct{ pattern, pc uint32 }

const (
	unknown = -1 // a transition that has not been computed yet
	dead    = 0  // the state in which no pattern can match any more
)

// Compile makes a Set of patterns.
func Compile(patterns []Pattern) (*Set, error) {
	if len(patterns) > MaxPatterns {
		return nil, fmt.Errorf("%d patterns are more than %d", len(patterns), MaxPatterns)
	}
	s := &Set{states: make(map[string]int32)}
	longest := 0
	for _, pattern := range patterns {
		longest = max(longest, pattern.MaxLength)
	}
	s.byLength = make([]Mask, longest+2)
	for i, pattern := range patterns {
		for length := range s.byLength {
			if pattern.MaxLength == 0 || length <= pattern.MaxLength {
				s.byLength[length] |= 1 << i
			}
		}
		program, err := compile(pattern.Accepts)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", pattern.Accepts, err)
		}
		if program == nil {
			s.always |= 1 << i
		}
		s.programs = append(s.programs, program)
	}

	s.state(nil)
	start := follower{set: s, flags: syntax.EmptyBeginText}
	for i, program := range s.programs {
		if program != nil {
			start.follow(thread{uint32(i), uint32(program.Start)})
		}
	}
	s.state(start.found)
	return s, nil
}

// compile returns nil for the empty pattern.
func compile(pattern string) (*syntax.Prog, error) {
	if pattern == "" {
		return nil, nil
	}
	if pattern[0] != '^' || pattern[len(pattern)-1] != '$' {
		return nil, errors.New("it does not begin with ^ and end with $")
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	for _, instruction := range program.Inst {
		switch instruction.Op {
		case syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			return nil, errors.New("it has a character other than ASCII's")
		case syntax.InstRune, syntax.InstRune1:
			if slices.Max(instruction.Rune) > unicode.MaxASCII {
				return nil, errors.New("it has a character other than ASCII's")
			}
		}
	}
	return program, nil
}

// Clone returns a Set of the same patterns, for use at the same time.
func (s *Set) Clone() *Set {
	clone := *s
	clone.next, clone.accepts = slices.Clone(s.next), slices.Clone(s.accepts)
	clone.threads, clone.states = slices.Clone(s.threads), maps.Clone(s.states)
	return &clone
}

// Match returns the patterns that accept text.
func (s *Set) Match(text []byte) Mask {
	state := int32(1)
	for _, b := range text {
		if b > unicode.MaxASCII {
			return s.always
		}
		to := s.next[state<<7|int32(b)]
		if to == unknown {
			to = s.step(state, b)
		}
		if to == dead {
			return s.always
		}
		state = to
	}
	return s.accepts[state] & s.byLength[min(len(text), len(s.byLength)-1)]
}

// step computes a transition.
func (s *Set) step(from int32, b byte) int32 {
	reached := follower{set: s}
	for _, t := range s.threads[from] {
		instruction := &s.programs[t.pattern].Inst[t.pc]
		if instruction.MatchRune(rune(b)) {
			reached.follow(thread{t.pattern, instruction.Out})
		}
	}
	to := s.state(reached.found)
	s.next[from<<7|int32(b)] = to
	return to
}

// A follower finds the instructions that can be reached without reading a byte.
type follower struct {
	set   *Set
	flags syntax.EmptyOp // the conditions that hold at this position of the text
	seen  []thread
	found []thread
}

// follow adds what t reaches: instructions that read a byte, and those at which a program has matched if the
// text ends here.
func (f *follower) follow(t thread) {
	if slices.Contains(f.seen, t) {
		return
	}
	f.seen = append(f.seen, t)
	instruction := &f.set.programs[t.pattern].Inst[t.pc]
	switch instruction.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		f.follow(thread{t.pattern, instruction.Out})
		f.follow(thread{t.pattern, instruction.Arg})
	case syntax.InstCapture, syntax.InstNop:
		f.follow(thread{t.pattern, instruction.Out})
	case syntax.InstEmptyWidth:
		switch condition := syntax.EmptyOp(instruction.Arg); {
		case condition == syntax.EmptyEndText:
			f.found = append(f.found, t)
		case condition&^f.flags == 0:
			f.follow(thread{t.pattern, instruction.Out})
		}
	case syntax.InstFail:
	default:
		f.found = append(f.found, t)
	}
}

// state returns the state for threads.
func (s *Set) state(threads []thread) int32 {
	slices.SortFunc(threads, func(a, b thread) int {
		return int(a.pattern)<<20 + int(a.pc) - int(b.pattern)<<20 - int(b.pc)
	})
	key := make([]byte, 0, 4*len(threads))
	accepts := s.always
	for _, t := range threads {
		key = append(key, byte(t.pattern), byte(t.pc), byte(t.pc>>8), byte(t.pc>>16))
		if s.programs[t.pattern].Inst[t.pc].Op == syntax.InstEmptyWidth {
			accepts |= 1 << t.pattern
		}
	}
	if state, isKnown := s.states[string(key)]; isKnown {
		return state
	}

	state := int32(len(s.threads))
	s.states[string(key)] = state
	s.threads = append(s.threads, threads)
	s.accepts = append(s.accepts, accepts)
	for range 1 << 7 {
		s.next = append(s.next, unknown)
	}
	return state
}

// Any is the mask of the patterns that accept every text.
func (s *Set) Any() Mask { return s.always }
