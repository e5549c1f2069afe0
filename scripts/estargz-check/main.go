// Command estargz-check reads the layers of an OCI image layout with the library of stargz-snapshotter, as that does which
// mounts them: by the table of contents, each chunk by itself and verified. What it finds must be what the tar archive has.
//
//	estargz-check LAYOUT
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
)

type descriptor struct {
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: estargz-check LAYOUT")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(layout string) error {
	var index struct{ Manifests []descriptor }
	if err := readJSON(filepath.Join(layout, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s has %d images, not one", layout, len(index.Manifests))
	}
	var manifest struct{ Layers []descriptor }
	if err := readJSON(blob(layout, index.Manifests[0].Digest), &manifest); err != nil {
		return err
	}
	if len(manifest.Layers) == 0 {
		return errors.New("the image has no layers")
	}
	for _, layer := range manifest.Layers {
		files, size, err := checkLayer(blob(layout, layer.Digest), layer)
		if err != nil {
			return fmt.Errorf("layer %s: %w", layer.Digest, err)
		}
		fmt.Printf("%s: %d files, %d bytes\n", layer.Digest, files, size)
	}
	return nil
}

func checkLayer(name string, layer descriptor) (files int, size int64, err error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	reader, err := estargz.Open(io.NewSectionReader(file, 0, layer.Size))
	if err != nil {
		return 0, 0, err
	}
	verifiers, err := reader.VerifyTOC(digest.Digest(layer.Annotations[estargz.TOCJSONDigestAnnotation]))
	if err != nil {
		return 0, 0, err
	}
	if _, ok := reader.Lookup(estargz.NoPrefetchLandmark); !ok {
		return 0, 0, errors.New("no landmark")
	}

	plain, err := gzip.NewReader(file)
	if err != nil {
		return 0, 0, err
	}
	counted := &counter{reader: plain}
	archive := tar.NewReader(counted)
	found := 0
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, 0, err
		}
		if header.Name == estargz.TOCTarName {
			continue
		}
		found++
		if err := checkEntry(reader, verifiers, header, archive); err != nil {
			return 0, 0, fmt.Errorf("%s: %w", header.Name, err)
		}
		if header.Typeflag == tar.TypeReg {
			files++
			size += header.Size
		}
	}
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return 0, 0, err
	}
	if want := layer.Annotations[estargz.StoreUncompressedSizeAnnotation]; want != strconv.FormatInt(counted.count, 10) {
		return 0, 0, fmt.Errorf("the annotation says %s uncompressed bytes, the layer has %d", want, counted.count)
	}
	root, _ := reader.Lookup("")
	if entries := count(root); entries != found {
		return 0, 0, fmt.Errorf("the table has %d entries, the archive %d", entries, found)
	}
	return files, size, nil
}

func checkEntry(reader *estargz.Reader, verifiers estargz.TOCEntryVerifier, header *tar.Header, content io.Reader) error {
	name := strings.TrimSuffix(path.Clean(header.Name), "/")
	entry, ok := reader.Lookup(name)
	if !ok {
		return errors.New("is not in the table")
	}
	if header.Typeflag == tar.TypeLink {
		// The library resolves links: it gives the file.
		target, ok := reader.Lookup(header.Linkname)
		if !ok || target != entry {
			return fmt.Errorf("does not lead to %s", header.Linkname)
		}
		return nil
	}
	kind := map[byte]string{tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink"}[header.Typeflag]
	stat, want := entry.Stat(), header.FileInfo()
	if entry.Type != kind || stat.Mode() != want.Mode() || entry.UID != header.Uid || entry.GID != header.Gid ||
		entry.LinkName != header.Linkname {
		return fmt.Errorf("the table says %+v, the archive %+v", entry, header)
	}
	if header.ModTime.Unix() != 0 && !stat.ModTime().Equal(header.ModTime) {
		return fmt.Errorf("the table says %s, the archive %s", stat.ModTime(), header.ModTime)
	}
	attributes := 0
	for key, value := range header.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			attributes++
			if string(entry.Xattrs[name]) != value {
				return fmt.Errorf("the attribute %s differs", name)
			}
		}
	}
	if attributes != len(entry.Xattrs) {
		return errors.New("the table has other attributes")
	}
	if kind != "reg" {
		return nil
	}

	if stat.Size() != header.Size {
		return fmt.Errorf("the table says %d bytes, the archive %d", stat.Size(), header.Size)
	}
	file, err := reader.OpenFile(name)
	if err != nil {
		return err
	}
	for offset := int64(0); offset < header.Size; {
		chunk, ok := reader.ChunkEntryForOffset(name, offset)
		if !ok {
			return fmt.Errorf("no chunk at %d", offset)
		}
		verifier, err := verifiers.Verifier(chunk)
		if err != nil {
			return err
		}
		// A chunk is inflated from its beginning by each read: stargz-snapshotter reads it at once, too.
		ours, theirs := make([]byte, chunk.ChunkSize), make([]byte, chunk.ChunkSize)
		if _, err := file.ReadAt(ours, chunk.ChunkOffset); err != nil && err != io.EOF {
			return err
		}
		if _, err := io.ReadFull(content, theirs); err != nil {
			return err
		}
		if _, err := verifier.Write(ours); err != nil {
			return err
		}
		if !verifier.Verified() || !bytes.Equal(ours, theirs) {
			return fmt.Errorf("the chunk at %d is not what the archive has", offset)
		}
		offset += chunk.ChunkSize
	}
	return nil
}

// count is the number of entries below a directory.
func count(directory *estargz.TOCEntry) int {
	entries := 0
	directory.ForeachChild(func(_ string, child *estargz.TOCEntry) bool {
		entries += 1
		if child.Type == "dir" {
			entries += count(child)
		}
		return true
	})
	return entries
}

type counter struct {
	reader io.Reader
	count  int64
}

func (c *counter) Read(buffer []byte) (int, error) {
	n, err := c.reader.Read(buffer)
	c.count += int64(n)
	return n, err
}

func blob(layout string, d digest.Digest) string {
	return filepath.Join(layout, "blobs", d.Algorithm().String(), d.Encoded())
}

func readJSON(name string, into any) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
