package main

import (
	"os"

	"golang.org/x/term"
)

// Colours, as a terminal takes them.
const (
	red      = "\x1b[31m"
	green    = "\x1b[32m"
	yellow   = "\x1b[33m"
	noColour = "\x1b[0m"
)

// terminal returns the terminal behind a stream; false when it is a file, a pipe or a buffer.
func terminal(stream any) (*os.File, bool) {
	file, isFile := stream.(*os.File)
	return file, isFile && term.IsTerminal(int(file.Fd()))
}

// widthOf is the number of columns of the terminal behind a stream; 0 when it has no limit.
func widthOf(stream any) int {
	file, isTerminal := terminal(stream)
	if !isTerminal {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// A painter gives texts a colour.
type painter bool

// painterOf paints on a terminal, unless NO_COLOR is set or the terminal has no colours.
func (p *program) painterOf(stream any) painter {
	_, isTerminal := terminal(stream)
	return painter(isTerminal && !p.hasNoColour)
}

func (p painter) paint(colour, text string) string {
	if !p || colour == "" {
		return text
	}
	return colour + text + noColour
}
