package kit

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

//go:embed static templates
var files embed.FS

// An asset is a file that pages load. Its tag changes with its contents.
type asset struct {
	content []byte
	tag     string
}

// walk calls use with each embedded file.
func walk(from fs.FS, use func(name string, content []byte)) {
	err := fs.WalkDir(from, ".", func(at string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(from, at)
		use(path.Base(at), content)
		return err
	})
	if err != nil {
		panic(err) // they were there when the program was compiled
	}
}

// AddFiles serves all files but the templates, and returns their names.
func (s *Site) AddFiles(from fs.FS) (names []string) {
	walk(from, func(name string, content []byte) {
		s.look = TagOf(s.look, name, string(content))
		if strings.HasSuffix(name, ".html") {
			return
		}
		if _, isThere := s.assets[name]; isThere {
			panic("two files are named " + name)
		}
		sum := sha256.Sum256(content)
		s.assets[name] = asset{content: content, tag: hex.EncodeToString(sum[:8])}
		names = append(names, name)
	})
	slices.Sort(names)
	return names
}

// parse adds the templates of these files.
func (s *Site) parse(to *template.Template, from fs.FS) *template.Template {
	walk(from, func(name string, content []byte) {
		if strings.HasSuffix(name, ".html") {
			template.Must(to.New(name).Parse(string(content)))
		}
	})
	return to
}

// Static is the URL of a file that pages load.
func (s *Site) Static(name string) string {
	found, isThere := s.assets[name]
	if !isThere {
		panic(fmt.Sprintf("there is no file %q", name))
	}
	return "/static/" + name + "?v=" + found.tag
}

// Look changes with the templates and static files, because they change the look of pages.
func (s *Site) Look() string { return s.look }

// ServeAsset serves a file that pages load.
func (s *Site) ServeAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	asset, isThere := s.assets[name]
	if !isThere {
		http.NotFound(w, r)
		return
	}

	// Widgets load these files too, from frames that may have no origin.
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	// The page requests a file with its tag, so the browser may cache it forever.
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == asset.tag {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	w.Header().Set("ETag", `"`+asset.tag+`"`)
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(asset.content))
}
