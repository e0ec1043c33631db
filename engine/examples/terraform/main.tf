terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
}

variable "repository" {
  description = "The repository on GitHub, as OWNER/NAME."
  type        = string
}

variable "bucket" {
  description = "The bucket's name, for models and journal."
  type        = string
}

data "aws_caller_identity" "here" {}

# One key for bucket and registry. Whoever may use the role or policy below may use it; nobody else.
resource "aws_kms_key" "mergeline" {
  description             = "Mergeline's models, journal and images"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

data "aws_iam_policy_document" "key" {
  # checkov:skip=CKV_AWS_109:a key's policy is about that key alone; "*" is the only resource there is
  # checkov:skip=CKV_AWS_111:a key's policy is about that key alone
  # checkov:skip=CKV_AWS_356:a key's policy is about that key alone
  statement {
    sid       = "AccountGivesAccessByItsPolicies"
    actions   = ["kms:*"]
    resources = ["*"]
    principals {
      type        = "AWS"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.here.account_id}:root"]
    }
  }
}

resource "aws_s3_bucket" "store" {
  # checkov:skip=CKV_AWS_18:access logs belong to the account's CloudTrail, not to a second bucket
  # checkov:skip=CKV_AWS_144:models can be trained again from git; replicate where that is too slow
  # checkov:skip=CKV2_AWS_62:nothing listens; watching reads on a schedule
  bucket = var.bucket
}

resource "aws_s3_bucket_public_access_block" "store" {
  bucket                  = aws_s3_bucket.store.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# The store is content-addressed and the journal is append-only: an overwritten object is an accident or an attack.
resource "aws_s3_bucket_versioning" "store" {
  bucket = aws_s3_bucket.store.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.mergeline.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "store" {
  bucket = aws_s3_bucket.store.id
  rule {
    id     = "what-was-replaced"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 90
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_ecr_repository" "server" {
  name                 = lower(var.repository)
  image_tag_mutability = "IMMUTABLE"
  image_scanning_configuration {
    scan_on_push = true
  }
  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = aws_kms_key.mergeline.arn
  }
}

resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

# Who may take which role: pull requests of this repository read, its main branch writes. Forks' pull requests have no identity.
locals {
  subjects = {
    reads  = ["repo:${var.repository}:pull_request"]
    writes = ["repo:${var.repository}:ref:refs/heads/main"]
  }
}

data "aws_iam_policy_document" "github" {
  for_each = local.subjects
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [aws_iam_openid_connect_provider.github.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = each.value
    }
  }
}

resource "aws_iam_role" "github" {
  for_each             = local.subjects
  name                 = "mergeline-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.github[each.key].json
  max_session_duration = 7200
}

data "aws_iam_policy_document" "reads" {
  statement {
    sid       = "ReadModelsAndJournal"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.store.arn}/*"]
  }
  statement {
    sid       = "ListThem"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]
  }
  statement {
    sid       = "DecryptThem"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.mergeline.arn]
  }
}

data "aws_iam_policy_document" "writes" {
  source_policy_documents = [data.aws_iam_policy_document.reads.json]
  statement {
    sid       = "AddModels" # never delete, and never touch the journal
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.store.arn}/models/*"]
  }
  statement {
    sid       = "EncryptThem"
    actions   = ["kms:GenerateDataKey"]
    resources = [aws_kms_key.mergeline.arn]
  }
  statement {
    sid = "PushTheImage"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = [aws_ecr_repository.server.arn]
  }
  statement {
    # checkov:skip=CKV_AWS_356:this action knows no resource; it gives a token and no access by itself
    sid       = "LogInToTheRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
}

data "aws_iam_policy_document" "server" {
  statement {
    sid       = "ReadModels"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.store.arn}/models/*"]
  }
  statement {
    sid       = "KeepTheJournal" # merged files replace those that they were made of
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.store.arn}/journal/*"]
  }
  statement {
    sid       = "ListThem"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.store.arn]
  }
  statement {
    sid       = "UseTheKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.mergeline.arn]
  }
}

resource "aws_iam_policy" "reads" {
  name   = "mergeline-reads"
  policy = data.aws_iam_policy_document.reads.json
}

resource "aws_iam_policy" "writes" {
  name   = "mergeline-writes"
  policy = data.aws_iam_policy_document.writes.json
}

resource "aws_iam_policy" "server" {
  name   = "mergeline-server"
  policy = data.aws_iam_policy_document.server.json
}

resource "aws_iam_role_policy_attachment" "reads" {
  role       = aws_iam_role.github["reads"].name
  policy_arn = aws_iam_policy.reads.arn
}

resource "aws_iam_role_policy_attachment" "writes" {
  role       = aws_iam_role.github["writes"].name
  policy_arn = aws_iam_policy.writes.arn
}

output "store" {
  description = "For `dvc remote modify store url`."
  value       = "s3://${aws_s3_bucket.store.bucket}/models"
}

output "journal" {
  description = "For `serve.journal` and `watch.journal` in params.yaml."
  value       = "s3://${aws_s3_bucket.store.bucket}/journal"
}

output "registry" {
  description = "Where the image is pushed."
  value       = aws_ecr_repository.server.repository_url
}

output "roles" {
  description = "For `role-to-assume` of aws-actions/configure-aws-credentials, in jobs with `id-token: write`."
  value       = { for name, role in aws_iam_role.github : name => role.arn }
}

output "server_policy_arn" {
  description = "Attach it to the role that the server runs as (IRSA, ECS task role)."
  value       = aws_iam_policy.server.arn
}
