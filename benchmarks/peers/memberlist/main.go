// A node of memberlist, which carries one blob per node. See benchmarks/peers/__init__.py for what it is told and what it says.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

type config struct {
	ID    string `json:"id"`
	Host  string `json:"host"`
	Port  int    `json:"port"`
	Seeds []struct {
		Host string `json:"host"`
		Port int    `json:"port"`
	} `json:"seeds"`
}

type command struct {
	Do, Key, Value string
}

func now() float64 { return float64(time.Now().UnixNano()) / 1e9 }

func say(at float64, event string, more map[string]any) {
	if more == nil {
		more = map[string]any{}
	}
	more["at"], more["event"] = at, event
	line, err := json.Marshal(more)
	if err != nil {
		log.Fatal(err)
	}
	os.Stdout.Write(append(line, '\n')) // one write, so that goroutines don't get into each other's lines
}

// blob is the node's own "key=value", and hears of the others'.
type blob struct {
	own  string
	lock sync.Mutex
	data []byte
}

func (b *blob) NodeMeta(int) []byte {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.data
}
func (b *blob) NotifyMsg([]byte)                {}
func (b *blob) GetBroadcasts(int, int) [][]byte { return nil }
func (b *blob) LocalState(bool) []byte          { return nil }
func (b *blob) MergeRemoteState([]byte, bool)   {}

func (b *blob) NotifyJoin(node *memberlist.Node) {
	if node.Name != b.own {
		say(now(), "peer", map[string]any{"id": node.Name})
	}
}
func (b *blob) NotifyLeave(node *memberlist.Node) {
	if node.Name != b.own {
		say(now(), "dead", map[string]any{"id": node.Name})
	}
}
func (b *blob) NotifyUpdate(node *memberlist.Node) {
	key, value, found := strings.Cut(string(node.Meta), "=")
	if found && node.Name != b.own {
		say(now(), "update", map[string]any{"id": node.Name, "key": key, "value": value})
	}
}

func main() {
	var given config
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		log.Fatal(err)
	}
	own := &blob{own: given.ID}
	settings := memberlist.DefaultLANConfig()
	settings.Name = given.ID
	settings.BindAddr, settings.BindPort = given.Host, given.Port
	settings.AdvertiseAddr, settings.AdvertisePort = given.Host, given.Port
	settings.Delegate, settings.Events = own, own
	settings.LogOutput = io.Discard
	began := now()
	list, err := memberlist.Create(settings)
	if err != nil {
		log.Fatal(err)
	}
	say(began, "ready", map[string]any{"pid": os.Getpid()})
	var seeds []string
	for _, seed := range given.Seeds {
		seeds = append(seeds, fmt.Sprintf("%s:%d", seed.Host, seed.Port))
	}
	if len(seeds) > 0 {
		go func() {
			for attempts := 0; attempts < 100; attempts++ { // the seed may not be up yet
				if _, err := list.Join(seeds); err == nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var told command
		if err := json.Unmarshal(lines.Bytes(), &told); err != nil {
			log.Fatal(err)
		}
		switch told.Do {
		case "set":
			at := now()
			own.lock.Lock()
			own.data = []byte(told.Key + "=" + told.Value)
			own.lock.Unlock()
			go list.UpdateNode(10 * time.Second) // returns when the last message about it has left
			say(at, "set", map[string]any{"key": told.Key})
		case "state":
			keys := map[string]int{}
			for _, node := range list.Members() {
				keys[node.Name] = min(len(node.Meta), 1)
			}
			say(now(), "state", map[string]any{"keys": keys})
		case "quit":
			return
		}
	}
}
