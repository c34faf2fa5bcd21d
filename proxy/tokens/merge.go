package tokens

import "math"

const (
	// noRank is the rank of a pair that is no token; such a pair is never merged.
	noRank = math.MaxInt32
	// scanMax is the piece length up to which looking at all pairs for the next merge is cheaper
	// than a heap.
	scanMax = 96
)

// merged is the number of tokens that byte-pair merging makes of the piece: it joins the pair of
// lowest rank, leftmost first, until no pair is a token.
func (v *vocabulary) merged(piece string) int {
	if len(piece) <= scanMax {
		return v.mergedByScan(piece)
	}
	return v.mergedByHeap(piece)
}

// mergedByScan is merged in quadratic time without allocating, for pieces up to scanMax.
func (v *vocabulary) mergedByScan(piece string) int {
	var starts, ranks [scanMax + 1]int32 // of the parts; a rank is that of the part joined with its right neighbour
	n := len(piece)
	for i := range n + 1 {
		starts[i] = int32(i) //nolint:gosec // at most scanMax
		ranks[i] = noRank    //nolint:gosec // n is at most scanMax
	}
	for i := range n - 1 {
		ranks[i] = v.rank(piece[i : i+2])
	}
	for n > 1 {
		best := 0
		for i := 1; i < n-1; i++ {
			if ranks[i] < ranks[best] {
				best = i
			}
		}
		if ranks[best] == noRank {
			break
		}
		copy(starts[best+1:n], starts[best+2:n+1])
		copy(ranks[best+1:n], ranks[best+2:n+1])
		n--
		ranks[best] = noRank
		if best+2 <= n {
			ranks[best] = v.rank(piece[starts[best]:starts[best+2]])
		}
		if best > 0 {
			ranks[best-1] = v.rank(piece[starts[best-1]:starts[best+1]]) //nolint:gosec // best is above 0
		}
	}
	return n
}

// pair is a candidate of the heap; it is stale when the part at start no longer ends, with its
// neighbour, at end.
type pair struct{ rank, start, end int32 }

func (p pair) before(q pair) bool {
	return p.rank < q.rank || p.rank == q.rank && p.start < q.start
}

// mergedByHeap is merged in n log n.
func (v *vocabulary) mergedByHeap(piece string) int {
	parts := len(piece)
	next := make([]int32, parts+1) // of a part that starts here: where the next one starts; 0 once it is joined to its left
	prev := make([]int32, parts+1)
	queue := make(pairs, 0, parts)
	for i := range int32(parts) { //nolint:gosec // at most pieceMax
		next[i], prev[i] = i+1, i-1
		if end := int(i) + 2; end <= len(piece) {
			queue.push(pair{v.rank(piece[i:end]), i, int32(end)})
		}
	}
	offer := func(start int32) {
		if middle := next[start]; int(middle) < len(piece) {
			queue.push(pair{v.rank(piece[start:next[middle]]), start, next[middle]})
		}
	}
	for len(queue) > 0 {
		top := queue.pop()
		middle := next[top.start]
		if middle == 0 || int(middle) >= len(piece) || next[middle] != top.end {
			continue
		}
		next[top.start], next[middle] = top.end, 0
		if int(top.end) < len(piece) {
			prev[top.end] = top.start
		}
		parts--
		offer(top.start)
		if before := prev[top.start]; before >= 0 {
			offer(before)
		}
	}
	return parts
}

// pairs is a binary heap with the next pair to merge on top; pairs that are no token never enter
// it.
type pairs []pair

func (h *pairs) push(p pair) {
	if p.rank == noRank {
		return
	}
	*h = append(*h, p)
	q := *h
	for i := len(q) - 1; i > 0; {
		up := (i - 1) / 2
		if !q[i].before(q[up]) {
			return
		}
		q[i], q[up] = q[up], q[i]
		i = up
	}
}

func (h *pairs) pop() pair {
	q := *h
	top, last := q[0], len(q)-1
	q[0] = q[last]
	q = q[:last]
	*h = q
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && q[child+1].before(q[child]) {
			child++
		}
		if !q[child].before(q[i]) {
			return top
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}
