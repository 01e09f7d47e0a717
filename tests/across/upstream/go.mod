module github.com/delayedq/delayed/tests/across/upstream

go 1.26.0

require (
	github.com/delayedq/delayed v0.0.0
	github.com/gomodule/redigo v1.8.9
	github.com/keakon/golog v0.0.0-20230323022214-04d52304f8cd
	github.com/yizhisec/go-delayed v0.0.0-20230324085158-b9b3a47d839c
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	github.com/shamaton/msgpack/v2 v2.1.1 // indirect
	github.com/vmihailenco/msgpack/v5 v5.4.1 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/delayedq/delayed => ../../..
