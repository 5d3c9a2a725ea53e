package registry

import (
	"context"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	assetsv1 "github.com/pipelined/pipelined/proto/sift/assets/v1"

	"github.com/pipelined/pipelined/plugins/sources/sift/filter"
)

// assetService keeps assets.
type assetService struct {
	assetsv1.UnimplementedAssetServiceServer
	store *Store
}

func loadAsset(tx *bbolt.Tx, id string, into *assetsv1.Asset) error {
	ok, err := load(tx, assets, id, into)
	if err == nil && !ok {
		err = refuse(codes.NotFound, "there is no asset %s", quote(id))
	}
	return err
}

// addAsset keeps a new asset and gives it its id.
func (s *Store) addAsset(tx *bbolt.Tx, asset *assetsv1.Asset) error {
	id, err := create(tx, assets)
	if err != nil {
		return err
	}
	now := timestamppb.New(s.now())
	asset.AssetId, asset.CreatedDate, asset.ModifiedDate = id, now, now
	if err := tx.Bucket(assetNames).Put([]byte(asset.GetName()), []byte(id)); err != nil {
		return err
	}
	return save(tx, assets, id, asset)
}

// ensureAsset returns the id of the asset with a name, and makes it if there is
// none.
func (s *Store) ensureAsset(tx *bbolt.Tx, name string) (string, error) {
	if id := tx.Bucket(assetNames).Get([]byte(name)); id != nil {
		return string(id), nil
	}
	asset := &assetsv1.Asset{Name: name}
	err := s.addAsset(tx, asset)
	return asset.GetAssetId(), err
}

func (s assetService) GetAsset(_ context.Context, in *assetsv1.GetAssetRequest) (*assetsv1.GetAssetResponse, error) {
	asset := new(assetsv1.Asset)
	err := s.store.view(func(tx *bbolt.Tx) error { return loadAsset(tx, in.GetAssetId(), asset) })
	if err != nil {
		return nil, err
	}
	return &assetsv1.GetAssetResponse{Asset: asset}, nil
}

func (s assetService) CreateAsset(_ context.Context, in *assetsv1.CreateAssetRequest) (*assetsv1.CreateAssetResponse, error) {
	asset := &assetsv1.Asset{Name: in.GetName(), Tags: in.GetTags(), Metadata: in.GetMetadata()}
	if err := checkName("name", asset.GetName()); err != nil {
		return nil, err
	}
	if err := checkTags(asset.GetTags()); err != nil {
		return nil, err
	}
	if err := checkMetadata(asset.GetMetadata()); err != nil {
		return nil, err
	}
	err := s.store.update(func(tx *bbolt.Tx) error {
		if tx.Bucket(assetNames).Get([]byte(asset.GetName())) != nil {
			return refuse(codes.AlreadyExists, "there is an asset %s", quote(asset.GetName()))
		}
		return s.store.addAsset(tx, asset)
	})
	if err != nil {
		return nil, err
	}
	return &assetsv1.CreateAssetResponse{Asset: asset}, nil
}

func (s assetService) ListAssets(_ context.Context, in *assetsv1.ListAssetsRequest) (*assetsv1.ListAssetsResponse, error) {
	match, err := parseFilter(in.GetFilter(), filter.Fields{
		"asset_id": filter.String, "name": filter.String, "name_lower": filter.String,
		"tag_name": filter.Strings, "is_archived": filter.Bool,
	})
	if err != nil {
		return nil, err
	}
	page, err := newPage(in.GetPageSize(), in.GetPageToken(), "assets", in.GetFilter(), in.GetOrderBy())
	if err != nil {
		return nil, err
	}
	var all []*assetsv1.Asset
	err = s.store.view(func(tx *bbolt.Tx) error {
		return each(tx, assets, func(a *assetsv1.Asset) {
			if match.Match(func(field string) []string { return assetField(a, field) }) {
				all = append(all, a)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	if err := sortBy(all, in.GetOrderBy(), assetOrder(), (*assetsv1.Asset).GetAssetId); err != nil {
		return nil, err
	}
	items, next, err := cut(page, all, (*assetsv1.Asset).GetAssetId)
	if err != nil {
		return nil, err
	}
	return &assetsv1.ListAssetsResponse{Assets: items, NextPageToken: next}, nil
}

func assetField(a *assetsv1.Asset, field string) []string {
	switch field {
	case "asset_id":
		return []string{a.GetAssetId()}
	case "name":
		return []string{a.GetName()}
	case "name_lower":
		return []string{strings.ToLower(a.GetName())}
	case "tag_name":
		return a.GetTags()
	default:
		return []string{strconv.FormatBool(a.GetIsArchived())}
	}
}

func assetOrder() comparers[*assetsv1.Asset] {
	return comparers[*assetsv1.Asset]{
		"name":          by((*assetsv1.Asset).GetName),
		"created_date":  byTime((*assetsv1.Asset).GetCreatedDate),
		"modified_date": byTime((*assetsv1.Asset).GetModifiedDate),
	}
}

func (s assetService) UpdateAsset(_ context.Context, in *assetsv1.UpdateAssetRequest) (*assetsv1.UpdateAssetResponse, error) {
	paths := in.GetUpdateMask().GetPaths()
	if len(paths) == 0 {
		return nil, errNoMask("tags, metadata, archived_date, is_archived")
	}
	asset := new(assetsv1.Asset)
	err := s.store.update(func(tx *bbolt.Tx) error {
		if err := loadAsset(tx, in.GetAsset().GetAssetId(), asset); err != nil {
			return err
		}
		for _, path := range paths {
			if err := s.store.setAsset(asset, in.GetAsset(), path); err != nil {
				return err
			}
		}
		asset.ModifiedDate = timestamppb.New(s.store.now())
		return save(tx, assets, asset.GetAssetId(), asset)
	})
	if err != nil {
		return nil, err
	}
	return &assetsv1.UpdateAssetResponse{Asset: asset}, nil
}

// setAsset takes one field over.
func (s *Store) setAsset(asset, from *assetsv1.Asset, path string) error {
	switch path {
	case "tags":
		asset.Tags = from.GetTags()
		return checkTags(asset.GetTags())
	case "metadata":
		asset.Metadata = from.GetMetadata()
		return checkMetadata(asset.GetMetadata())
	case "archived_date":
		asset.ArchivedDate, asset.IsArchived = from.GetArchivedDate(), from.GetArchivedDate() != nil
		return checkTime(path, from.GetArchivedDate())
	case "is_archived":
		asset.ArchivedDate, asset.IsArchived = s.archived(asset.GetArchivedDate(), from.GetIsArchived()), from.GetIsArchived()
		return nil
	}
	return errMaskPath(path, "tags, metadata, archived_date, is_archived")
}

// archived returns the archived date of a record that is archived or not.
func (s *Store) archived(since *timestamppb.Timestamp, archived bool) *timestamppb.Timestamp {
	switch {
	case !archived:
		return nil
	case since == nil:
		return timestamppb.New(s.now())
	}
	return since
}
