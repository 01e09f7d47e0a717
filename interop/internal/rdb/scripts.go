package rdb

import (
	"crypto/sha1" //nolint:gosec // the name that Redis gives a script
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/delayedq/delayed/lua"
)

// script is a Lua script as the server knows it.
type script struct {
	Source string
	Sha    string
}

// Scripts are the files in lua/: the folder is the list, and Queue has a method of the same name for each.
var Scripts = loadScripts()

func loadScripts() map[string]script {
	loaded := map[string]script{}
	entries, err := lua.Files.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("delayed: the embedded scripts: %v", err)) // cannot be: they are part of the program
	}
	for _, entry := range entries {
		source, err := lua.Files.ReadFile(entry.Name())
		if err != nil {
			panic(fmt.Sprintf("delayed: the embedded script %s: %v", entry.Name(), err))
		}
		digest := sha1.Sum(source) //nolint:gosec // as above
		loaded[strings.TrimSuffix(entry.Name(), ".lua")] = script{string(source), hex.EncodeToString(digest[:])}
	}
	return loaded
}

// command is the Redis command that runs the script.
func (s script) command(keys, args []string) []string {
	command := make([]string, 0, 3+len(keys)+len(args))
	command = append(command, "EVALSHA", s.Sha, strconv.Itoa(len(keys)))
	return append(append(command, keys...), args...)
}

// WithSource is a command that runs a script, for a server that does not have it (yet, or any more).
func WithSource(command []string) []string {
	return append([]string{"EVAL", sources[command[1]]}, command[2:]...)
}

// sources are the scripts by their SHA-1.
var sources = func() map[string]string {
	found := map[string]string{}
	for _, script := range Scripts {
		found[script.Sha] = script.Source
	}
	return found
}()

// MissingScripts are the commands that give a server the scripts that it lacks. known is its reply to the command that asks for them. (Some
// servers write each script that they are sent to their replicas, and to the append-only file.)
func MissingScripts(known any) (commands [][]string) {
	there, _ := known.([]any)
	for i, name := range scriptNames {
		if i >= len(there) || there[i] != int64(1) {
			commands = append(commands, []string{"SCRIPT", "LOAD", Scripts[name].Source})
		}
	}
	return commands
}

// scriptNames are the names of the scripts, in the order of haveScripts, which asks a server which of them it has.
var scriptNames = slices.Sorted(maps.Keys(Scripts))

func AskForScripts() []string {
	command := []string{"SCRIPT", "EXISTS"}
	for _, name := range scriptNames {
		command = append(command, Scripts[name].Sha)
	}
	return command
}
