package request_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

// dataURL is a picture of so many pixels.
func dataURL(tb testing.TB, kind string, width, height int) string {
	tb.Helper()
	var b bytes.Buffer
	picture := image.NewGray(image.Rect(0, 0, width, height))
	err := png.Encode(&b, picture)
	if kind == "jpeg" {
		b.Reset()
		err = jpeg.Encode(&b, picture, nil)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return "data:image/" + kind + ";base64," + base64.StdEncoding.EncodeToString(b.Bytes())
}

func TestPicturesAreMeasuredAndTheirBytesAreNoText(t *testing.T) {
	t.Parallel()
	wide, tall := dataURL(t, "png", 640, 480), dataURL(t, "jpeg", 31, 97)
	for _, c := range []struct {
		rule, part string
		want       request.Image
	}{
		{"a PNG", `{"type":"image_url","image_url":{"url":"` + wide + `","detail":"high"}}`, request.Image{Width: 640, Height: 480, Detail: "high"}},
		{"a JPEG", `{"image_url":{"url":"` + tall + `"},"type":"image_url"}`, request.Image{Width: 31, Height: 97}},
		{"a bare string", `{"type":"image_url","image_url":"` + wide + `"}`, request.Image{Width: 640, Height: 480}},
		{"the detail beside it", `{"type":"input_image","detail":"low","image_url":"` + wide + `"}`, request.Image{Width: 640, Height: 480, Detail: "low"}},
		{"behind a URL", `{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}`, request.Image{}},
		{"cut off", `{"type":"image_url","image_url":{"url":"` + wide[:40] + `"}}`, request.Image{}},
		{"of another form", `{"type":"image_url","image_url":{"url":"data:image/gif;base64,R0lGODlhAQABAAAAACw="}}`, request.Image{}},
		{"not in base64", `{"type":"image_url","image_url":{"url":"data:image/png,iVBORw0KGgo"}}`, request.Image{}},
		{"without a url", `{"type":"image_url","image_url":{}}`, request.Image{}},
	} {
		r := parse(t, chat, withContent(`[`+c.part+`]`))
		if len(r.Images) != 1 || r.Images[0] != c.want {
			t.Errorf("%s: %+v, want %+v", c.rule, r.Images, c.want)
		}
		if all := strings.Join(r.Texts, ""); strings.Contains(all, "base64") || strings.Contains(all, "example.com") {
			t.Errorf("%s: its bytes are counted as text", c.rule)
		}
	}
}

func TestThePicturesOfAToolsResultCount(t *testing.T) {
	t.Parallel()
	r := parse(t, chat, `{"model":"m","messages":[{"role":"tool","tool_call_id":"c","content":[{"type":"image_url","image_url":{"url":"https://example.com"}}]},
		{"role":"user","content":[{"type":"tool_result","content":[{"type":"input_image","image_url":"https://example.com"}]}]}]}`)
	if len(r.Images) != 2 {
		t.Errorf("%d pictures", len(r.Images))
	}
}

func FuzzPicture(f *testing.F) {
	f.Add(dataURL(f, "png", 3, 5))
	f.Add(dataURL(f, "jpeg", 3, 5))
	f.Add("data:image/png;base64,iVBORw0KGgoAAAANSUhEUg")
	f.Add("data:;base64,/9j/")
	f.Fuzz(func(t *testing.T, url string) {
		r, err := request.Parse(chat, []byte(withContent(fmt.Sprintf(`[{"type":"image_url","image_url":{"url":%q}}]`, url))))
		if err != nil {
			return // not every string is JSON as %q writes it
		}
		i := r.Images[0]
		if i.Width < 0 || i.Height < 0 || (i.Width == 0) != (i.Height == 0) || i.Width > 1<<16 || i.Height > 1<<16 {
			t.Fatalf("a picture of %d x %d", i.Width, i.Height)
		}
	})
}
