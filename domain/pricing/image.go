package pricing

import (
	"errors"
	"fmt"
	"math"
)

// imageRow is how a provider counts the tokens of an image, in the catalogue.
type imageRow struct {
	Kind     string `json:"kind"`
	Base     int64  `json:"base"`
	Tile     int64  `json:"tile"`
	Size     int64  `json:"size"`
	Permille int64  `json:"permille"`
	Most     int64  `json:"most"`
}

// imageRule is an imageRow that was checked.
type imageRule struct{ imageRow }

// The kinds of rules.
const (
	// imageTiles: fit into 2048x2048, shortest side to 768, base and a tile for each 512x512 (OpenAI,
	// images and vision: GPT-4o, 4.1, o1, GPT-5).
	imageTiles = "tiles"
	// imagePatches: a token for each size x size pixels, times permille, at most so many (OpenAI: the mini
	// and nano models, GPT-5.4 and later with size 32; Anthropic, vision: size 28).
	imagePatches = "patches"
	// imageFlat: so many for each image, whatever its size (Gemini 3; upper bounds of Gemini 2 and Mistral).
	imageFlat = "flat"
)

func (r *imageRow) rule() (*imageRule, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // no rule is a fact: images are refused
	}
	ok := r.Base >= 0 && r.Tile >= 0 && r.Most >= 0
	switch r.Kind {
	case imageTiles:
		ok = ok && r.Tile > 0
	case imagePatches:
		ok = ok && r.Size > 0 && r.Permille > 0 && r.Most > 0
	case imageFlat:
		ok = ok && r.Most > 0
	default:
		return nil, fmt.Errorf("image: %q is no kind of rule", r.Kind)
	}
	if !ok {
		return nil, errors.New("image: a figure is missing or negative")
	}
	return &imageRule{*r}, nil
}

// ImageTokens is the most tokens an image of so many pixels is billed as, false where the model has no
// rule. A size of 0 is unknown, and costs what the dearest image does. Detail is the request's.
func (m *Model) ImageTokens(width, height int64, detail string) (int64, bool) {
	if m.image == nil {
		return 0, false
	}
	r := m.image
	known := width > 0 && height > 0 && width <= imageSide && height <= imageSide
	switch r.Kind {
	case imageTiles:
		if detail == "low" {
			return r.Base, true
		}
		tiles := int64(tilesMost)
		if known {
			tiles = tilesOf(float64(width), float64(height))
		}
		return r.Base + r.Tile*tiles, true
	case imagePatches:
		patches := r.Most
		if known {
			patches = min(patches, ceilDiv(width, 1, r.Size)*ceilDiv(height, 1, r.Size))
		}
		return ceilDiv(patches, r.Permille, permille), true
	}
	return r.Most, true
}

const (
	// imageSide bounds a side that is believed; what is larger counts as unknown.
	imageSide = 1 << 20
	// tilesMost is the most tiles of any image: 2048x768 is four by two.
	tilesMost = 8
	longSide  = 2048
	shortSide = 768
	tileSide  = 512
)

// tilesOf scales an image down as OpenAI does and counts its tiles. Rounding may leave a sliver of a
// tile more, never less.
func tilesOf(width, height float64) int64 {
	if shrink := longSide / max(width, height); shrink < 1 {
		width, height = width*shrink, height*shrink
	}
	if shrink := shortSide / min(width, height); shrink < 1 {
		width, height = width*shrink, height*shrink
	}
	return int64(math.Ceil(width/tileSide) * math.Ceil(height/tileSide))
}
