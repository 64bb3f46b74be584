// Package storetest holds stores to the rules of the model: a suite with one function for each rule, random
// operations compared with memstore, a check of concurrent histories, and a store that fails on demand.
package storetest

import "time"

// advance lets virtual time pass.
func advance(d time.Duration) { <-time.After(d) }
