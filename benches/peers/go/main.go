// Does the work of the report's cases with goroutines and channels.
//
// One line of input is one round: the name of the work and its numbers. The answer is one line: the
// nanoseconds of the measured part, and the sum or count that is checked.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A message, and where its answer goes; nil: nowhere.
type message struct {
	value  int64
	answer chan int64
}

// total asks an actor for the sum of what it was told.
const total = -1

// actor answers what it is asked, and adds up what it is told.
func actor(inbox <-chan message) {
	var sum int64
	for m := range inbox {
		switch {
		case m.value == total:
			m.answer <- sum
			sum = 0
		case m.answer != nil:
			m.answer <- m.value
		default:
			sum += m.value
		}
	}
}

func start() chan message {
	inbox := make(chan message, 1024)
	go actor(inbox)
	return inbox
}

// ask has one answering channel for all questions, the cheapest way that Go has.
func ask(inbox chan message, count int64) int64 {
	answer := make(chan int64, 1)
	var sum int64
	for i := int64(0); i < count; i++ {
		inbox <- message{i, answer}
		sum += <-answer
	}
	return sum
}

func askTotal(inbox chan message) int64 {
	answer := make(chan int64, 1)
	inbox <- message{total, answer}
	return <-answer
}

func tell(inbox chan message, count int64) {
	for i := int64(0); i < count; i++ {
		inbox <- message{i, nil}
	}
}

// burst asks all before it takes the first answer.
func burst(inbox chan message, count int64) int64 {
	answers := make(chan int64, count)
	for i := int64(0); i < count; i++ {
		inbox <- message{i, answers}
	}
	var sum int64
	for i := int64(0); i < count; i++ {
		sum += <-answers
	}
	return sum
}

func spawn(count int64) int64 {
	results := make(chan int64, count)
	for i := int64(0); i < count; i++ {
		go func(i int64) { results <- i }(i)
	}
	var sum int64
	for i := int64(0); i < count; i++ {
		sum += <-results
	}
	return sum
}

// produce gives the time from the common start until the last producer is done.
func produce(inbox chan message, producers, each int64) time.Duration {
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for p := int64(0); p < producers; p++ {
		ready.Add(1)
		done.Add(1)
		go func() {
			ready.Done()
			<-begin
			tell(inbox, each)
			done.Done()
		}()
	}
	ready.Wait()
	started := time.Now()
	close(begin)
	done.Wait()
	return time.Since(started)
}

func chain(length int64) int64 {
	end := make(chan int64, 1)
	var link func(done int64)
	link = func(done int64) {
		if done == length {
			end <- done
			return
		}
		go link(done + 1)
	}
	link(0)
	return <-end
}

func timers(count int64) string {
	late := make(chan int64, count)
	started := time.Now()
	for i := int64(0); i < count; i++ {
		delay := time.Duration(i%10) * time.Millisecond
		due := time.Now().Add(delay)
		time.AfterFunc(delay, func() { late <- int64(time.Since(due)) })
	}
	scheduled := time.Since(started)
	all := make([]int64, 0, count)
	for i := int64(0); i < count; i++ {
		all = append(all, <-late)
	}
	fired := time.Since(started)
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	early := sort.Search(len(all), func(i int) bool { return all[i] >= 0 })
	last := float64(len(all) - 1)
	return fmt.Sprintf("%d %d %d %d %d %d", scheduled.Nanoseconds(), fired.Nanoseconds(), len(all),
		all[int(last*0.5)], all[int(last*0.99)], early)
}

func timed(work func() int64) string {
	started := time.Now()
	sum := work()
	return fmt.Sprintf("%d %d", time.Since(started).Nanoseconds(), sum)
}

// repeated does the work once, or as often as is asked for.
func repeated(times []int64, work func() int64) string {
	rounds := int64(1)
	if len(times) > 0 {
		rounds = times[0]
	}
	return timed(func() int64 {
		var sum int64
		for i := int64(0); i < rounds; i++ {
			sum += work()
		}
		return sum
	})
}

func round(inbox chan message, work string, n []int64) string {
	switch {
	case work == "ready":
		return "0 0"
	case work == "ask" && len(n) == 1:
		return timed(func() int64 { return ask(inbox, n[0]) })
	case work == "tell" && len(n) == 1:
		return timed(func() int64 { tell(inbox, n[0]); return askTotal(inbox) })
	case work == "burst" && (len(n) == 1 || len(n) == 2):
		return repeated(n[1:], func() int64 { return burst(inbox, n[0]) })
	case work == "mixed" && (len(n) == 1 || len(n) == 2):
		return repeated(n[1:], func() int64 { return burst(inbox, n[0]) + ask(inbox, n[0]) })
	case work == "spawn" && len(n) == 1:
		return timed(func() int64 { return spawn(n[0]) })
	case work == "chain" && len(n) == 1:
		return timed(func() int64 { return chain(n[0]) })
	case work == "timers" && len(n) == 1:
		return timers(n[0])
	case work == "produce" && len(n) == 2:
		took := produce(inbox, n[0], n[1])
		return fmt.Sprintf("%d %d", took.Nanoseconds(), askTotal(inbox))
	case work == "drain" && len(n) == 2:
		return timed(func() int64 { produce(inbox, n[0], n[1]); return askTotal(inbox) })
	}
	return "unknown work " + work
}

func main() {
	inbox := start()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		var numbers []int64
		for _, word := range words[1:] {
			number, err := strconv.ParseInt(word, 10, 64)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			numbers = append(numbers, number)
		}
		fmt.Println(round(inbox, words[0], numbers))
	}
}
