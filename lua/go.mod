module github.com/delayedq/delayed/lua

go 1.23
