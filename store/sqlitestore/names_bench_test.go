package sqlitestore

import "testing"

func BenchmarkLook(b *testing.B) {
	s := benchStore(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.names.look(); err != nil {
			b.Fatal(err)
		}
	}
}
