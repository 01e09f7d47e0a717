// Package lua holds the scripts that every state change of a queue goes through. Python and Go run the same files.
package lua

import "embed"

//go:embed *.lua
var Files embed.FS
