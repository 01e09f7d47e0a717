// Package interest says which queues have an interest in what is published.
package interest

import (
	"fmt"
	"strings"

	"github.com/delayedq/delayed/interop/internal/errs"
)

const (
	longest   = 1000 // characters of a pattern
	largest   = 500  // places of the text that it may look at; each repetition counts
	deepest   = 20   // groups in each other
	mostTimes = 100  // repetitions
	repeats   = "*+?{"
)

// parser checks that a regular expression is in the subset of RE2's syntax that delayed/interests/syntax.py describes: it means the same
// here, in JavaScript and in Python.
type parser struct {
	text []rune
	at   int
}

// check says why a regular expression is refused. The error wraps ErrConfiguration.
func check(text string) error {
	p := &parser{text: []rune(text)}
	_, err := p.alternatives(0)
	if err == nil && p.at < len(p.text) {
		err = p.wrong("this ) closes nothing")
	}
	return err
}

func (p *parser) wrong(why string, args ...any) error {
	return fmt.Errorf("%w: the regular expression %.200q cannot be used (at character %d): %s",
		errs.ErrConfiguration, string(p.text), p.at+1, fmt.Sprintf(why, args...))
}

// next is the next character, or -1 at the end.
func (p *parser) next() rune {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return -1
}

func (p *parser) took(what string) bool {
	end := p.at + len(what)
	if end > len(p.text) || string(p.text[p.at:end]) != what {
		return false
	}
	p.at = end
	return true
}

func (p *parser) bounded(size int) (int, error) {
	if size > largest {
		return 0, p.wrong("it is too large: with its repetitions it looks at more than %d places", largest)
	}
	return size, nil
}

// part is what has been read: how large it is, as the limit counts, and whether it is a single place such as ^.
type part struct {
	size  int
	place bool
}

func (p *parser) alternatives(depth int) (part, error) {
	if depth > deepest {
		return part{}, p.wrong("more than %d groups are in each other", deepest)
	}
	whole, err := p.sequence(depth)
	for err == nil && p.took("|") {
		var more part
		if more, err = p.sequence(depth); err == nil {
			whole.place = false
			whole.size, err = p.bounded(whole.size + more.size + 1)
		}
	}
	return whole, err
}

func (p *parser) sequence(depth int) (part, error) {
	whole, count := part{}, 0
	for p.next() != -1 && p.next() != '|' && p.next() != ')' {
		one, err := p.atom(depth)
		if err == nil {
			one, err = p.repeated(one)
		}
		if err == nil {
			one.size, err = p.bounded(whole.size + one.size)
		}
		if err != nil {
			return part{}, err
		}
		count++
		whole = part{one.size, one.place && count == 1}
	}
	return whole, nil
}

func (p *parser) atom(depth int) (part, error) {
	char := p.next()
	p.at++
	switch {
	case char == '(':
		if p.next() == '?' && !p.took("?:") {
			return part{}, p.wrong("of groups with (? there is only (?:")
		}
		whole, err := p.alternatives(depth + 1)
		if err == nil && !p.took(")") {
			err = p.wrong("a group is not closed")
		}
		return whole, err
	case char == '[':
		return part{size: 1}, p.class()
	case char == '^' || char == '$':
		return part{1, true}, nil
	case char == '\\':
		if p.next() == 'b' || p.next() == 'B' {
			p.at++
			return part{1, true}, nil
		}
		_, err := p.escaped()
		return part{size: 1}, err
	case strings.ContainsRune(repeats, char):
		p.at--
		return part{}, p.wrong("%c repeats nothing; for the character itself write \\%[1]c", char)
	}
	return part{size: 1}, nil
}

// escaped is the character behind a backslash; -1 for a class.
func (p *parser) escaped() (rune, error) {
	char := p.next()
	p.at++
	switch {
	case char != -1 && strings.ContainsRune("dwsDWS", char):
		return -1, nil
	case char == 'x':
		value := rune(0)
		for range 2 {
			digit := strings.IndexRune("0123456789abcdefABCDEF", p.next())
			if p.next() == -1 || digit < 0 {
				return 0, p.wrong("\\x is followed by two hexadecimal digits")
			}
			if digit > 15 {
				digit -= 6
			}
			value = value<<4 | rune(digit) //nolint:gosec // 0 to 15
			p.at++
		}
		return value, nil
	case char == 't' || char == 'n' || char == 'v' || char == 'f' || char == 'r':
		return map[rune]rune{'t': 9, 'n': 10, 'v': 11, 'f': 12, 'r': 13}[char], nil
	case char < '!' || char > '~' || isAlphanumeric(char):
		p.at--
		return 0, p.wrong("there is no such escape")
	}
	return char, nil
}

func isAlphanumeric(char rune) bool {
	return '0' <= char && char <= '9' || 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z'
}

// class reads what is in [ ].
func (p *parser) class() error {
	p.took("^")
	for first := true; !p.took("]"); first = false {
		if p.next() == -1 {
			return p.wrong("a class [ is not closed")
		}
		plain := p.next() == '-'
		low, err := p.member()
		if err != nil {
			return err
		}
		switch {
		case p.next() == '-' && p.at+1 < len(p.text) && p.text[p.at+1] != ']':
			p.at++
			high, err := p.member()
			if err != nil {
				return err
			}
			if low == -1 || high == -1 || low > high {
				return p.wrong("a range in a class goes from one character to a later one; for a hyphen write \\-")
			}
		case plain && !first && p.next() != ']':
			return p.wrong("a hyphen inside a class is written \\-")
		}
		if p.next() == ']' {
			first = false
			p.at++
			return nil
		}
	}
	return p.wrong("a class has no characters")
}

func (p *parser) member() (rune, error) {
	char := p.next()
	if char == '[' {
		return 0, p.wrong("a [ inside a class is written \\[")
	}
	p.at++
	if char == '\\' {
		return p.escaped()
	}
	return char, nil
}

func (p *parser) isRepetition() bool {
	return p.next() != -1 && strings.ContainsRune(repeats, p.next())
}

func (p *parser) repeated(one part) (part, error) {
	if !p.isRepetition() {
		return one, nil
	}
	if one.place {
		return part{}, p.wrong("a place such as ^ cannot be repeated")
	}
	times, err := p.times()
	if err != nil {
		return part{}, err
	}
	p.took("?") // as few as possible: whether there is a match does not depend on it
	if p.isRepetition() {
		return part{}, p.wrong("a repetition is repeated: put the first in a group (?:…)")
	}
	size, err := p.bounded(one.size*max(1, times) + 1)
	return part{size: size}, err
}

// times is the larger of the numbers of repetitions.
func (p *parser) times() (int, error) {
	for _, char := range []string{"*", "+", "?"} {
		if p.took(char) {
			return 1, nil
		}
	}
	p.at++
	least, err := p.count()
	highest := least
	if err == nil && p.took(",") && p.next() != '}' {
		highest, err = p.count()
	}
	switch {
	case err != nil:
		return 0, err
	case !p.took("}"):
		return 0, p.wrong("a number of repetitions is {n}, {n,} or {n,m}; for the character itself write \\{")
	case least > highest:
		return 0, p.wrong("a number of repetitions ends below its beginning")
	}
	return highest, nil
}

func (p *parser) count() (int, error) {
	first, value := p.at, 0
	for '0' <= p.next() && p.next() <= '9' && p.at-first < 4 {
		value = value*10 + int(p.next()-'0')
		p.at++
	}
	digits := p.at - first
	if digits == 0 || p.text[first] == '0' && digits > 1 || digits > 3 || value > mostTimes {
		return 0, p.wrong("a number of repetitions is 0 to %d, as in {2,5}; for the character write \\{", mostTimes)
	}
	return value, nil
}
