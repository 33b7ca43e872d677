package upload

// WithSizes makes an import work in chunks of other sizes, so that small files have many.
func (r Request) WithSizes(first, rest int) Request {
	r.sizes = [2]int{first, rest}
	return r
}
