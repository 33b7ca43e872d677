package deliver

// shares divide something among owners: each may take more while they have less than what is left free. So one
// alone gets half of all, and something is left for whoever comes later, however much others hold for how long.
type shares struct {
	limit, taken int
	byOwner      map[int64]int
}

func newShares(limit int) shares { return shares{limit: limit, byOwner: make(map[int64]int)} }

func (s *shares) hasRoom(owner int64) bool { return s.byOwner[owner] < s.limit-s.taken }

// add notes that an owner has taken as many more, or given them back.
func (s *shares) add(owner int64, count int) {
	s.taken += count
	s.byOwner[owner] += count
	if s.byOwner[owner] == 0 {
		delete(s.byOwner, owner)
	}
}
