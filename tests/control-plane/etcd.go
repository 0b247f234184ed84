// A single-member etcd on loopback with etcd's own flag names. Test data only.
package main

import (
	"flag"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func urls(text string) []url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		log.Fatal(err)
	}
	return []url.URL{*parsed}
}

func runEtcd(args []string) {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("data-dir", "", "data directory")
	listen := flags.String("listen-client-urls", "http://127.0.0.1:2379", "client URL")
	advertise := flags.String("advertise-client-urls", "http://127.0.0.1:2379", "client URL that members tell")
	peer := flags.String("listen-peer-urls", "http://127.0.0.1:2380", "peer URL")
	noFsync := flags.Bool("unsafe-no-fsync", false, "skip fsync: test data only")
	_ = flags.Parse(args)
	config := embed.NewConfig()
	config.Name = "default"
	config.Dir = *dir
	config.ListenClientUrls, config.AdvertiseClientUrls = urls(*listen), urls(*advertise)
	config.ListenPeerUrls, config.AdvertisePeerUrls = urls(*peer), urls(*peer)
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = *noFsync
	config.LogLevel = "warn"
	config.TickMs, config.ElectionMs = 100, 1000
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		log.Fatal(err)
	}
	<-etcd.Server.ReadyNotify()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-signals:
	case err := <-etcd.Err():
		log.Print(err)
	}
	etcd.Close()
}
