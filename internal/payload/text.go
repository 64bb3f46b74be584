package payload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// unquote returns the text of a string, given what is between its quotes. Half of a surrogate pair, which can only be written
// as an escape, becomes the three bytes that UTF-8 would have for it if it were a character.
func unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted
	}
	text := make([]byte, 0, len(quoted))
	for i := 0; i < len(quoted); {
		c := quoted[i]
		if c != '\\' {
			text = append(text, c)
			i++
			continue
		}
		if c = quoted[i+1]; c == 'u' {
			r, n := escaped(quoted[i:])
			text = appendRune(text, r)
			i += n
			continue
		}
		if at := strings.IndexByte("bfnrt", c); at >= 0 {
			c = "\b\f\n\r\t"[at]
		}
		text = append(text, c)
		i += 2
	}
	return text
}

const escapeLength = len(`\u0000`)

// escaped reads the escape that a text begins with, and the next if the two are a pair, and returns their length.
func escaped(text []byte) (r rune, n int) {
	r = hex(text)
	if len(text) >= 2*escapeLength && bytes.HasPrefix(text[escapeLength:], []byte(`\u`)) {
		if both := utf16.DecodeRune(r, hex(text[escapeLength:])); both != utf8.RuneError {
			return both, 2 * escapeLength
		}
	}
	return r, escapeLength
}

func hex(escape []byte) rune {
	r, _ := strconv.ParseUint(string(escape[2:escapeLength]), 16, 16)
	return rune(r)
}

// halfFirst is the first byte of half a surrogate pair. No character that begins with it goes on with halfSecond or more.
const (
	halfFirst  = 0xED
	halfSecond = 0xA0
	halfLength = 3
)

// Halves reports whether a string of data has half a surrogate pair, which no Go string and no store keeps. Data must be sound.
func Halves(data []byte) bool {
	for i := 0; i < len(data); {
		switch {
		case data[i] != '\\':
			i++
		case data[i+1] != 'u':
			i += 2
		default:
			r, n := escaped(data[i:])
			if utf16.IsSurrogate(r) {
				return true
			}
			i += n
		}
	}
	return false
}

func appendRune(text []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(text, halfFirst, 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(text, r)
}

// half returns where a text has the first half of a surrogate pair, else its length.
func half(text []byte) int {
	for i := 0; i+halfLength <= len(text); i++ {
		if text[i] == halfFirst && text[i+1] >= halfSecond {
			return i
		}
	}
	return len(text)
}

// plain reports whether encoding/json writes a text as it is.
func plain(text []byte) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '\\' || c == '"' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// appendText appends a text as encoding/json writes it, and halves of surrogate pairs as escapes.
func appendText(out, text []byte) []byte {
	out = append(out, '"')
	if plain(text) {
		return append(append(out, text...), '"')
	}
	for len(text) > 0 {
		n := half(text)
		whole, _ := json.Marshal(string(text[:n]))
		out = append(out, whole[1:len(whole)-1]...)
		if text = text[n:]; len(text) > 0 {
			r := rune(halfFirst&0x0F)<<12 | rune(text[1]&0x3F)<<6 | rune(text[2]&0x3F)
			out = fmt.Appendf(out, `\u%04x`, r)
			text = text[halfLength:]
		}
	}
	return append(out, '"')
}
