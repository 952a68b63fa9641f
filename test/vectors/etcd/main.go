// Program etcd prints golden vectors of internal/etcd, made by etcd's own types:
// requests as its client encodes them, and answers with what is in them.
package main

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

var header = &pb.ResponseHeader{ClusterId: 1<<63 + 5, MemberId: 7, Revision: 1 << 40, RaftTerm: 3}

const head = "cluster=9223372036854775813 member=7 revision=1099511627776 term=3"

func main() {
	fmt.Println("# Golden vectors of etcd's messages, made by go.etcd.io/etcd/api/v3 v3.7.3.")
	fmt.Println("# Do not edit: `make vectors` makes this file. A line has a name, a message in hex, and what is in it.")
	requests()
	values()
	members()
	rights()
}

// line prints one vector.
func line(name string, m proto.Message, content ...any) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	text := fmt.Sprintf("%x", b)
	if text == "" {
		text = "-"
	}
	fmt.Println(strings.TrimSpace(name + " " + text + " " + fmt.Sprintln(content...)))
}

var (
	key  = "/privyseal/chain-1/" + strings.Repeat("0f", 20)
	old  = string([]byte{0, 1, 255}) + strings.Repeat("o", 600)
	next = string([]byte{255, 0}) + strings.Repeat("n", 700)
)

// requests are those that we send.
func requests() {
	line("request/range", &pb.RangeRequest{Key: []byte(key)}, "now")
	line("request/range", &pb.RangeRequest{Key: []byte(key), Revision: 12}, "at 12")
	get := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
	put := func(value string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
	}
	revision := func(target pb.Compare_CompareTarget, at int64) *pb.Compare {
		c := &pb.Compare{Target: target, Key: []byte(key), TargetUnion: &pb.Compare_CreateRevision{CreateRevision: at}}
		if target == pb.Compare_MOD {
			c.TargetUnion = &pb.Compare_ModRevision{ModRevision: at}
		}
		return c
	}
	value := func(is string) *pb.Compare {
		return &pb.Compare{Target: pb.Compare_VALUE, Key: []byte(key), TargetUnion: &pb.Compare_Value{Value: []byte(is)}}
	}
	line("request/txn", &pb.TxnRequest{Compare: []*pb.Compare{revision(pb.Compare_CREATE, 0)},
		Success: []*pb.RequestOp{put(next)}, Failure: []*pb.RequestOp{get}}, "create")
	line("request/txn", &pb.TxnRequest{Compare: []*pb.Compare{revision(pb.Compare_MOD, 1<<40), value(old)},
		Success: []*pb.RequestOp{put(next)}, Failure: []*pb.RequestOp{get}}, "replace")
	line("request/txn", &pb.TxnRequest{Compare: []*pb.Compare{revision(pb.Compare_MOD, 1<<40), value("")},
		Success: []*pb.RequestOp{put("")}, Failure: []*pb.RequestOp{get}}, "empty")
	line("request/keys", &pb.RangeRequest{Key: []byte("/privyseal/"), RangeEnd: []byte("/privyseal0"), Limit: 10, KeysOnly: true}, "of 10")
	line("request/status", &pb.StatusRequest{})
	line("request/members", &pb.MemberListRequest{})
	line("request/alarms", &pb.AlarmRequest{Action: pb.AlarmRequest_GET})
	line("request/user", &pb.AuthUserGetRequest{Name: "signer-1"})
	line("request/role", &pb.AuthRoleGetRequest{Role: "signers"})
}

// values are answers about our key.
func values() {
	found := &pb.RangeResponse{Count: 1, Kvs: []*mvccpb.KeyValue{{Key: []byte(key), Value: []byte(old), CreateRevision: 300, ModRevision: 1 << 40, Version: 9, Lease: 5}}}
	value := fmt.Sprintf("value=%x created=300 modified=1099511627776", old)
	inTxn := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: proto.Clone(found).(*pb.RangeResponse)}}
	found.Header = header
	line("answer/range", found, head, value)
	line("answer/range", &pb.RangeResponse{Header: header}, head, "value= created=0 modified=0")
	line("answer/range", &pb.RangeResponse{Header: header, Count: 1, Kvs: []*mvccpb.KeyValue{{Key: []byte(key), CreateRevision: 2, ModRevision: 2, Version: 1}}},
		head, "value= created=2 modified=2")
	line("answer/keys", &pb.RangeResponse{Header: header, More: true, Count: 7, Kvs: []*mvccpb.KeyValue{
		{Key: []byte("/privyseal/a"), CreateRevision: 2, ModRevision: 3, Version: 1}, {Key: []byte("/privyseal/b"), CreateRevision: 4, ModRevision: 4, Version: 1}}},
		head, `["/privyseal/a" "/privyseal/b"] more=true`)
	line("answer/keys", &pb.RangeResponse{Header: header}, head, "[] more=false")
	put := &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 1 << 40}}}}
	line("answer/txn", &pb.TxnResponse{Header: header, Succeeded: true, Responses: []*pb.ResponseOp{put}}, head, "won=true value= created=0 modified=0")
	line("answer/txn", &pb.TxnResponse{Header: header, Responses: []*pb.ResponseOp{inTxn}}, head, "won=false", value)
	gone := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 4}}}}
	line("answer/txn", &pb.TxnResponse{Header: header, Responses: []*pb.ResponseOp{gone}}, head, "won=false value= created=0 modified=0")
}

// members are answers about members.
func members() {
	line("answer/status", &pb.StatusResponse{Header: header, Version: "3.7.3", DbSize: 20480, Leader: 1<<63 + 1, RaftIndex: 1 << 41, RaftTerm: 4, RaftAppliedIndex: 1<<41 - 1,
		Errors: []string{"etcdserver: no leader", "memberID:7 alarm:NOSPACE "}, DbSizeInUse: 16384, IsLearner: true, StorageVersion: "3.7.0", DbSizeQuota: 2147483648,
		DowngradeInfo: &pb.DowngradeInfo{Enabled: true, TargetVersion: "3.6.0"}},
		head, `version="3.7.3" leader=9223372036854775809 index=2199023255552 applied=2199023255551 term=4 size=20480 inuse=16384 quota=2147483648 learner=true errors=["etcdserver: no leader" "memberID:7 alarm:NOSPACE "]`)
	line("answer/status", &pb.StatusResponse{Header: header, Version: "3.4.23", RaftIndex: 1},
		head, `version="3.4.23" leader=0 index=1 applied=0 term=0 size=0 inuse=0 quota=0 learner=false errors=[]`)
	line("answer/members", &pb.MemberListResponse{Header: header, Members: []*pb.Member{
		{ID: 1<<63 + 2, Name: "a", PeerURLs: []string{"https://10.0.0.1:2380"}, ClientURLs: []string{"https://10.0.0.1:2379", "http://127.0.0.1:2379"}},
		{ID: 8, IsLearner: true}}},
		head, `9223372036854775810 "a" ["https://10.0.0.1:2379" "http://127.0.0.1:2379"] false 8 "" [] true`)
	line("answer/alarms", &pb.AlarmResponse{Header: header, Alarms: []*pb.AlarmMember{{MemberID: 7, Alarm: pb.AlarmType_NOSPACE}, {MemberID: 8, Alarm: pb.AlarmType_CORRUPT}, {MemberID: 9, Alarm: 3}}},
		head, `7 "NOSPACE" 8 "CORRUPT" 9 "alarm 3"`)
	line("answer/alarms", &pb.AlarmResponse{Header: header}, head)
}

// rights are answers about users and roles.
func rights() {
	line("answer/user", &pb.AuthUserGetResponse{Header: header, Roles: []string{"signers", "root"}}, head, `["signers" "root"]`)
	line("answer/user", &pb.AuthUserGetResponse{Header: header}, head, "[]")
	line("answer/role", &pb.AuthRoleGetResponse{Header: header, Perm: []*authpb.Permission{
		{PermType: authpb.READWRITE, Key: []byte("/privyseal/"), RangeEnd: []byte("/privyseal0")},
		{PermType: authpb.READ, Key: []byte("a")}, {PermType: authpb.WRITE, Key: []byte{0}, RangeEnd: []byte{0}}}},
		head, `true true "/privyseal/" "/privyseal0" true false "a" "" false true "\x00" "\x00"`)
}
