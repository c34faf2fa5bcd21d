package request

import (
	"encoding/base64"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
)

// Image is a picture of a message. Width and Height are its pixels, both 0 where they are not known: behind
// a URL that is not data, or in a form that is not read here. Detail is the request's, empty if none.
type Image struct {
	Width, Height int64
	Detail        string
}

const (
	// headMax bounds what is decoded of a picture: in a JPEG with large metadata its size comes late, and
	// then it is unknown.
	headMax = 64 << 10
	// sideMax bounds a side that is believed.
	sideMax = 1 << 16
)

// picture reads the value of image_url: an object with a url, or the url itself. Null is none. The url is
// not counted as text: what a picture costs does not depend on its length.
func (p *parser) picture() (*Image, error) {
	if p.word("null") {
		return nil, nil //nolint:nilnil // there is none, and nothing is wrong
	}
	var i Image
	if p.peek() == '"' {
		url, err := p.url()
		i.measure(url)
		return &i, err
	}
	if p.peek() != '{' {
		return nil, invalid("messages", "image_url must be a URL or an object with one")
	}
	err := p.object(func(name string) error {
		switch {
		case name == "detail":
			return p.name("messages", &i.Detail)
		case name == "url" && p.peek() == '"':
			url, err := p.url()
			i.measure(url)
			return err
		}
		return p.input()
	})
	return &i, err
}

// url reads a string without copying it: the slashes that some encoders escape do not occur in the
// beginning that matters.
func (p *parser) url() (string, error) {
	raw, _, err := p.str()
	return raw, err
}

// measure reads the size of a PNG or JPEG from the beginning of a data URL. Whatever is not exactly as it
// should be leaves it unknown.
func (i *Image) measure(url string) {
	const scheme = "data:"
	head, data, ok := strings.Cut(url[:min(len(url), 2*headMax)], ",")
	if !ok || !strings.HasPrefix(head, scheme) || !strings.HasSuffix(head, ";base64") {
		return
	}
	bytes := io.LimitReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(data)), headMax)

	var config image.Config
	var err error
	switch {
	case strings.HasPrefix(data, "iVBORw0KGgo"): // the signature of PNG
		config, err = png.DecodeConfig(bytes)
	case strings.HasPrefix(data, "/9j/"): // of JPEG
		config, err = jpeg.DecodeConfig(bytes)
	default:
		return
	}
	if err != nil || min(config.Width, config.Height) <= 0 || max(config.Width, config.Height) > sideMax {
		return
	}
	i.Width, i.Height = int64(config.Width), int64(config.Height)
}
