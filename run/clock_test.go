// SPDX-License-Identifier: Apache-2.0

package run

import (
	"testing"
	"testing/synctest"
	"time"
)

// Every moment of the cases belongs to one table, also where arrangements are shared.
func TestClockSharesOutTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		time.Sleep(time.Hour) // the lane gets ready
		c.start()
		c.next() // before the first arrangement, which is made for what comes first
		time.Sleep(3 * time.Second)
		c.ended("b")
		time.Sleep(time.Second)
		c.ended("a")
		time.Sleep(2 * time.Second)
		c.ended("b")
		time.Sleep(4 * time.Second) // cleaned up
		c.next()
		time.Sleep(5 * time.Second)
		c.ended("a")
		c.next()
		time.Sleep(time.Hour) // no case of a table
		c.start()
		time.Sleep(time.Second)
		c.ended("proof")
		got := c.times()
		want := map[string]time.Duration{"a": 6 * time.Second, "b": 9 * time.Second, "proof": time.Second}
		if len(got) != 3 || got[0].Table != "a" || got[1].Table != "b" {
			t.Fatalf("%+v", got)
		}
		for _, x := range got {
			if x.Duration != want[x.Table] {
				t.Errorf("%s: %s, want %s", x.Table, x.Duration, want[x.Table])
			}
		}
	})
}
