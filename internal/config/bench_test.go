package config

import (
	"fmt"
	"testing"
)

// many returns a config with n chains, as `init` writes it.
func many(n int) []byte {
	chains := make([]Chain, n)
	for i := range chains {
		chains[i] = newChain(fmt.Sprintf("chain-%d", i))
	}
	return fileKinds.New(chains...).Render()
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1, 50, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := many(n)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := fileKinds.Parse(FileName, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A file with many chains takes work in proportion to its length, counted in bytes
// looked at for line numbers and in allocations for all the rest.
func TestWorkGrowsWithTheFile(t *testing.T) {
	perByte := map[int]float64{}
	for _, n := range []int{100, 400} {
		data := many(n)
		doc := fileKinds.scan(data)
		if doc.broken || doc.counter.looked > len(data) || doc.counter.looked < len(data)/2 {
			t.Errorf("%d chains: looked at %d bytes for line numbers, in a file of %d", n, doc.counter.looked, len(data))
		}
		allocs := testing.AllocsPerRun(2, func() {
			if _, err := fileKinds.Parse(FileName, data); err != nil {
				t.Fatal(err)
			}
		})
		perByte[n] = allocs / float64(len(data))
	}
	if perByte[400] > 1.2*perByte[100] {
		t.Errorf("allocations per byte: %.3f for 100 chains, %.3f for 400", perByte[100], perByte[400])
	}
}

// fileKinds are of a build with key files only.
var fileKinds = Kinds{{Provider: "soft"}}

func newChain(id string) Chain {
	ch := NewChain(id, "")
	ch.Nodes = []Node{{Name: "node1", Addr: "unix:///run/" + id + ".sock"}}
	return ch
}
