// channels.go - what channels_main.c does, with Go's channels. bench/channels builds and runs it.
//
// channels THREADS PAIRS CAPACITY MS [locked]: with "locked" each goroutine has a thread of its own.
// Prints how many items there were, and how many a second of CPU time.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func cpuSeconds() float64 {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return float64(used.Utime.Sec+used.Stime.Sec) + float64(used.Utime.Usec+used.Stime.Usec)/1e6
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func send(items chan uint64, until time.Time) {
	for n := uint64(0); n%1024 != 0 || time.Now().Before(until); n++ {
		items <- n
	}
}

func receive(items chan uint64) uint64 {
	count := uint64(0)
	for range items {
		count++
	}
	return count
}

func main() {
	pairs, ms := number(os.Args[2]), number(os.Args[4])
	items := make(chan uint64, number(os.Args[3]))
	counts := make(chan uint64, pairs)
	var senders sync.WaitGroup

	runtime.GOMAXPROCS(number(os.Args[1]))
	until := time.Now().Add(time.Duration(ms) * time.Millisecond)
	begun := cpuSeconds()
	start := func(fn func()) {
		go func() {
			if len(os.Args) > 5 {
				runtime.LockOSThread()
			}
			fn()
		}()
	}
	for i := 0; i < pairs; i++ {
		senders.Add(1)
		start(func() { send(items, until); senders.Done() })
		start(func() { counts <- receive(items) })
	}
	senders.Wait()
	close(items)
	total := uint64(0)
	for i := 0; i < pairs; i++ {
		total += <-counts
	}
	fmt.Printf("%d %.0f\n", total, float64(total)/(cpuSeconds()-begun))
}
