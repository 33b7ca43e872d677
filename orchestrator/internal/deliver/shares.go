package deliver

// shares divide a resource among owners: an owner may take more while they have less than what is free. So one
// owner alone gets half of it, and some is always left for the next one.
type shares struct {
	limit, taken int
	byOwner      map[int64]int
}

func newShares(limit int) shares { return shares{limit: limit, byOwner: make(map[int64]int)} }

func (s *shares) hasRoom(owner int64) bool { return s.byOwner[owner] < s.limit-s.taken }

// add records that an owner has taken count more; a negative count gives them back.
func (s *shares) add(owner int64, count int) {
	s.taken += count
	s.byOwner[owner] += count
	if s.byOwner[owner] == 0 {
		delete(s.byOwner, owner)
	}
}
