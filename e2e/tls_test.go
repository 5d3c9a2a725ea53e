package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// certificate returns the files of a certificate for loopback, which vouches for
// itself, and of its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	file := func(name, typ string, content []byte) string {
		return writeFile(t, name, string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: content})))
	}
	return file("cert.pem", "CERTIFICATE", der), file("key.pem", "PRIVATE KEY", private)
}

// From one pipeline to the other over TLS, which the sender insists on.
func TestTLSBetweenPipelines(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	address := freeAddress(t)
	receiver := fmt.Sprintf(`
pipeline "receiver" {
  source "sift" "in" {
    listen = %q
    keys   = [secret::env(%q)]
    until  = pipeline.load
    tls {
      cert = %q
      key  = %q
    }
  }
  transport "parquet" "lake" {
    dir = "${data_dir}/parquet"
  }
}
`, address, apiKey, cert, key)
	sender := func(scheme, extra string) string {
		return load{uri: scheme + "://" + address, rows: 1000, extra: extra}.hcl()
	}
	h := run(t, options{}, "run", writeFile(t, "both.hcl", receiver+sender("https", fmt.Sprintf("tls_ca = %q", cert))))
	h.requireExit(exitOK)
	assert.Equal(t, uint64(1000), h.requireBalanced("receiver"))

	for name, wrong := range map[string]string{
		"unknown authority": sender("https", ""), "no TLS": sender("http", ""),
	} {
		h := run(t, options{}, "run", "--for", "1s", writeFile(t, "both.hcl", receiver+wrong))
		h.requireExit(exitUnavailable)
		assert.Contains(t, lastLine(h.stderr.String()), "sift.live", name)
		assert.Empty(t, h.account("receiver"), name)
	}
}
