/*
 * tlscerts.h - certificates for tests of TLS, in PEM: an authority, what it
 * issued for each type of key, and what another one issued. All are for servers
 * and clients named example.com, NAME.example.com or 127.0.0.1, from 2026 on
 * for a century. Made by openssl(1); nobody trusts them.
 */
#ifndef TLSCERTS_H
#define TLSCERTS_H

static const char ca_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBgTCCASegAwIBAgIUJVyIjRZR8Uh2SVH85b7x7P/4LrwwCgYIKoZIzj0EAwIw\n"
    "DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI4MTYxNDIzWhgPMjEyNjExMDQxNjE0MjNa\n"
    "MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAENW17hKqA\n"
    "JkmI6xnYYJKhPmd52lVmKnrj4vKvwtp9kMRoOlqaW1we4oZ2EOGI6VmZagSLFL5v\n"
    "o/st6pqdLkEBRKNjMGEwHQYDVR0OBBYEFA4qepSDCFEngCsXHvoKAvS2XUgxMB8G\n"
    "A1UdIwQYMBaAFA4qepSDCFEngCsXHvoKAvS2XUgxMA8GA1UdEwEB/wQFMAMBAf8w\n"
    "DgYDVR0PAQH/BAQDAgEGMAoGCCqGSM49BAMCA0gAMEUCIEd0H5WyR+w0o6mIFCt1\n"
    "CGzRqgLEZT/PFz+ChGQYXCgzAiEAjlZap3plFuc8z2brZJOMxSZIKxbIOulY0jac\n"
    "JpU5f5I=\n"
    "-----END CERTIFICATE-----\n";

static const char rsa_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIICmzCCAkCgAwIBAgIUXnIPdJiUxfqGt6O8oswpSmcYX9cwCgYIKoZIzj0EAwIw\n"
    "DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI4MTYxNDI0WhgPMjEyNjExMDQxNjE0MjRa\n"
    "MA4xDDAKBgNVBAMMA3JzYTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEB\n"
    "ALC12q9yiqdrDFoedA9LDyohZuX5vdllViAA8vx1FwjBgVPW7rDkvy1JwleIgB3O\n"
    "mfdKwDZ0Om26baQDbuck4VapntLZagLn65v5gp965ZC/HeBHGOkZGpMbFVhdkWkk\n"
    "asplFoTxwkzH3rP4zWgp9R6RyGPrLxH7W3gG/bltjD5QgzY2rh0Uu9cKGu491DfT\n"
    "fkB0AU9iUd15MewQebCeLt92lvbVj0MW7yGioL2vLR++22yBqwyZQbGRbhD22Nfg\n"
    "gYmqnKdm/1yi+P1qfUnOnPgxNQAJy0Cp8WK7JujJEJJO0RixdWhiYxiuPKdxlJ9M\n"
    "UD6lgGW2INqV4KWTauKl5N0CAwEAAaOBrzCBrDAMBgNVHRMBAf8EAjAAMA4GA1Ud\n"
    "DwEB/wQEAwIHgDAdBgNVHSUEFjAUBggrBgEFBQcDAQYIKwYBBQUHAwIwLQYDVR0R\n"
    "BCYwJIILZXhhbXBsZS5jb22CD3JzYS5leGFtcGxlLmNvbYcEfwAAATAdBgNVHQ4E\n"
    "FgQUF41cFfE3QEHOba60dQIqA/HE5wMwHwYDVR0jBBgwFoAUDip6lIMIUSeAKxce\n"
    "+goC9LZdSDEwCgYIKoZIzj0EAwIDSQAwRgIhAI7oWhPxotzm8GsiJUOb7WxXA/tO\n"
    "Q0nYUOF4483sMu8hAiEAu/kxjvX7NlSTLSMunKQZKaZovzxsWSItT3Jvg+ab+GQ=\n"
    "-----END CERTIFICATE-----\n";

static const char rsa_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCwtdqvcoqnawxa\n"
    "HnQPSw8qIWbl+b3ZZVYgAPL8dRcIwYFT1u6w5L8tScJXiIAdzpn3SsA2dDptum2k\n"
    "A27nJOFWqZ7S2WoC5+ub+YKfeuWQvx3gRxjpGRqTGxVYXZFpJGrKZRaE8cJMx96z\n"
    "+M1oKfUekchj6y8R+1t4Bv25bYw+UIM2Nq4dFLvXChruPdQ3035AdAFPYlHdeTHs\n"
    "EHmwni7fdpb21Y9DFu8hoqC9ry0fvttsgasMmUGxkW4Q9tjX4IGJqpynZv9covj9\n"
    "an1Jzpz4MTUACctAqfFiuyboyRCSTtEYsXVoYmMYrjyncZSfTFA+pYBltiDaleCl\n"
    "k2ripeTdAgMBAAECggEACvTjn9BCz5mgFPBhctdNE+gpSKYhAts5KVfVuRiLepQA\n"
    "8FFZ0GcGgYjav3Gru+1k94PPgjDXtJkEFlDOLg/H1wdCXUF0xMRbg/rHAhttI3nu\n"
    "IMtXvJA9aRSbULTQgMvswSreaBTTXs5fvRn2png/hgs0+RkKfJtwsvMABWDI+s4J\n"
    "ugnHeYeU5iphUVelVmNwGken7PBnHeKDhBywYypGv6YzOO8fDuZuZCf5Sb8z2SDo\n"
    "TJzGvavF8isCGu2GuS/6krzFtbnmHyCRo924x9gBIYqa4kOwIAiIzWQvnSJjxu6w\n"
    "8b18VEWhz0oMN93qZwM3QTvP4ntKNf4SkrQaDzYCYQKBgQDlCaTNZ8nPxyIhyPcO\n"
    "olnQ4FQY/t60iXn+Fi7AeRYA/4KKiZSCyeBHrA7fvvmIIGmHfj4MqVY8gtEKGhYu\n"
    "cW5+ErtC+DakA74QolfMom6nWozQKhF43zLdGVZHEuFU8g3uxyYHlMLre3Uo+0YR\n"
    "g4hCAcKzv18Fz9v0uGiVp28jLQKBgQDFg0Hd+s858icRk1brgfWhTBsbRoIJOpF2\n"
    "g062nJLM1ASgJy00Sb5miEvwAq3bqRIEXFH13cuw7IqiZrnA8M/V3tztGqjqq5nb\n"
    "okWFjsl0Tj9Yx5HsJkRHuxP7cNpp/UZXYGrCWzN69UY2O7z+TyqSMbsSDqAkUQw6\n"
    "D3WxFMeWcQKBgCDgHH67WhVv8O9GiGfaV+gKeyfHVbI2VYNqLbXE66qjAlreWqnX\n"
    "TlEbWls1b13hwSQIs+FfYRh4cobvraVm9MQ17hkzxawPOXXrx4yA+D8fWTz7/NwL\n"
    "taJU47R5+kwWHnfasBPAf6YLZ4rFXo5fAezvkcH5QytzZZAf9CsfCG3VAoGAMCdi\n"
    "JaaCY1RAZi6P4Hcc1ahia3HzPiDDWiuFQ0xFFh8SyaEDil34R7MvIGLm1EkSFXIU\n"
    "oWbjxEzHN/TnkLylTzU4k64ORLh1mHCllnxLbUmudAyj7PkfaIWZx5GqDnErdx4Q\n"
    "qTXnBTFLXumNmErgzCfHvg1GydPgsT8XqIayamECgYBIYsSy4zi2GeGSvjhwI5/x\n"
    "0/mPBmJPXRNzHj8vItpeul0PZhCzzJUFQzT7VjkPxkln68E0JAMaZqhIXq0fjgnR\n"
    "RyUGaUn9aMyaylLTRA4WeHA4W98OIP1VQQ7oAVV2O2g/c2Yumqr/KhOG7DJV/YXP\n"
    "/0vuQ1JmspPPMyjwUFtFxA==\n"
    "-----END PRIVATE KEY-----\n";

static const char p256_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIB0DCCAXegAwIBAgIUXnIPdJiUxfqGt6O8oswpSmcYX9gwCgYIKoZIzj0EAwIw\n"
    "DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI4MTYxNDI1WhgPMjEyNjExMDQxNjE0MjVa\n"
    "MA8xDTALBgNVBAMMBHAyNTYwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARISsKA\n"
    "62lkH5uGDzu9av8ajQ1hVKay6qd5niz6NPIZZ+hcjUv4qbaSsLjWREssO+7CFq/T\n"
    "snuKNUWa7gezvUZXo4GwMIGtMAwGA1UdEwEB/wQCMAAwDgYDVR0PAQH/BAQDAgeA\n"
    "MB0GA1UdJQQWMBQGCCsGAQUFBwMBBggrBgEFBQcDAjAuBgNVHREEJzAlggtleGFt\n"
    "cGxlLmNvbYIQcDI1Ni5leGFtcGxlLmNvbYcEfwAAATAdBgNVHQ4EFgQU+1EwfC1K\n"
    "TXLDFp1eBTNJFPlbkbcwHwYDVR0jBBgwFoAUDip6lIMIUSeAKxce+goC9LZdSDEw\n"
    "CgYIKoZIzj0EAwIDRwAwRAIgRfWNakF+FfZumH5sZP8j3meAL2AdXM97idSQzmBP\n"
    "/mQCIFRj56Q8MbT7hQ2qcIlKqrcc/tmrk9ADpl9AhioSXv3U\n"
    "-----END CERTIFICATE-----\n";

static const char p256_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgGa7huNyM5cSmE25v\n"
    "xmotKPEW3091GkiN0Qpz8yeK5T2hRANCAARISsKA62lkH5uGDzu9av8ajQ1hVKay\n"
    "6qd5niz6NPIZZ+hcjUv4qbaSsLjWREssO+7CFq/TsnuKNUWa7gezvUZX\n"
    "-----END PRIVATE KEY-----\n";

static const char p384_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIB7jCCAZSgAwIBAgIUXnIPdJiUxfqGt6O8oswpSmcYX9kwCgYIKoZIzj0EAwIw\n"
    "DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI4MTYxNDI1WhgPMjEyNjExMDQxNjE0MjVa\n"
    "MA8xDTALBgNVBAMMBHAzODQwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAARJ0X1bSz8t\n"
    "rlZErQqlr6VuIXB51cJjQ7hmjOSoMV/U1I0UUaFlySCyc1WpoemFdU6Y8EkiJbK4\n"
    "0CCHymAsPoZCxMD7vHFz3Y4TjSELi/o7YeTZnMY+GhzeRtDG3nfEM1WjgbAwga0w\n"
    "DAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwHQYDVR0lBBYwFAYIKwYBBQUH\n"
    "AwEGCCsGAQUFBwMCMC4GA1UdEQQnMCWCC2V4YW1wbGUuY29tghBwMzg0LmV4YW1w\n"
    "bGUuY29thwR/AAABMB0GA1UdDgQWBBSWA8unCEKaq6QXhi9165/gfM2vZzAfBgNV\n"
    "HSMEGDAWgBQOKnqUgwhRJ4ArFx76CgL0tl1IMTAKBggqhkjOPQQDAgNIADBFAiEA\n"
    "7nWoiUkA8B5raW2Wel/4bnxfrUYh6KE5AlbX1eO0WOMCIH6ojex/0VHZ7ZQsZS1O\n"
    "I29fsKoC11JDKDybjkMr/2SG\n"
    "-----END CERTIFICATE-----\n";

static const char p384_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDAVugidZEMrN1J2oCXp\n"
    "WZVMCQR5vu8OSRfkYRRviBtQHNDA4/UHUzVJQvDaRSgGCeShZANiAARJ0X1bSz8t\n"
    "rlZErQqlr6VuIXB51cJjQ7hmjOSoMV/U1I0UUaFlySCyc1WpoemFdU6Y8EkiJbK4\n"
    "0CCHymAsPoZCxMD7vHFz3Y4TjSELi/o7YeTZnMY+GhzeRtDG3nfEM1U=\n"
    "-----END PRIVATE KEY-----\n";

static const char ed25519_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBqTCCAU6gAwIBAgIUXnIPdJiUxfqGt6O8oswpSmcYX9owCgYIKoZIzj0EAwIw\n"
    "DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI4MTYxNDI1WhgPMjEyNjExMDQxNjE0MjVa\n"
    "MBIxEDAOBgNVBAMMB2VkMjU1MTkwKjAFBgMrZXADIQBgQJgQcBtJmCqOdlA8xP39\n"
    "5QcdvfhQseNPBDbq9GVx5aOBszCBsDAMBgNVHRMBAf8EAjAAMA4GA1UdDwEB/wQE\n"
    "AwIHgDAdBgNVHSUEFjAUBggrBgEFBQcDAQYIKwYBBQUHAwIwMQYDVR0RBCowKIIL\n"
    "ZXhhbXBsZS5jb22CE2VkMjU1MTkuZXhhbXBsZS5jb22HBH8AAAEwHQYDVR0OBBYE\n"
    "FBXUUhL86nA/HfiSaWbgPzz33z6fMB8GA1UdIwQYMBaAFA4qepSDCFEngCsXHvoK\n"
    "AvS2XUgxMAoGCCqGSM49BAMCA0kAMEYCIQC1vt02XMKO0ZDqJPf0AwBjNiBl4b05\n"
    "aDG9cS9oa66J9wIhAIpweeb0jq1EPEQwqrd0xmf83ba4ohbFGv4PoMDY2I3J\n"
    "-----END CERTIFICATE-----\n";

static const char ed25519_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIDnjJ+dNHwZSAge+9OHXK9S+oA8rY1eX3Y4ickYPupJk\n"
    "-----END PRIVATE KEY-----\n";

/* For itself: an authority must trust it, too. */
static const char p521_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIICWzCCAbygAwIBAgIUMSUMbvd1dFQWo+RhhiIZsiuRTr0wCgYIKoZIzj0EAwQw\n"
    "DzENMAsGA1UEAwwEcDUyMTAgFw0yNjExMjgyMDEzMzNaGA8yMTI2MTEwNDIwMTMz\n"
    "M1owDzENMAsGA1UEAwwEcDUyMTCBmzAQBgcqhkjOPQIBBgUrgQQAIwOBhgAEAdVa\n"
    "96Ar8xhkXMSGmS9eQm/9tff/fPYYIWmrPhCzNJ0E71t8byhVrs43OGVquwlW2kNN\n"
    "DCCbUmii7sQMyPMm+i0ZACJgt28a4DB6cv7rAqsxC3NkKSUIaldUAvKv3yaHxpIe\n"
    "SZWFYhiqj1gPT7soe2Bg5EgLPToHWNnWVQhoIQmn6ctlo4GwMIGtMB0GA1UdDgQW\n"
    "BBQYP4YOp+hTiJuFQhN1jKs5CGg/+DAfBgNVHSMEGDAWgBQYP4YOp+hTiJuFQhN1\n"
    "jKs5CGg/+DAOBgNVHQ8BAf8EBAMCB4AwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsG\n"
    "AQUFBwMCMC4GA1UdEQQnMCWCC2V4YW1wbGUuY29tghBwNTIxLmV4YW1wbGUuY29t\n"
    "hwR/AAABMAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0EAwQDgYwAMIGIAkIBn+n2bn0J\n"
    "UQfKaONyVt2FdmH8ML/djJu66WRThjaLoTL6MjxGmRl4+vZf7e+eZDZ/fg0EcDQl\n"
    "VlH7RWJYzROc184CQgHJZICZ1XNpCN6dz5PU9Xz1bRbtFWqnVBWRz+i8+gNoVNZ+\n"
    "bRH6ogPf5DO1a5BfY0xjajSgp7XlEvgCBgetMjGJxQ==\n"
    "-----END CERTIFICATE-----\n";

static const char p521_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIBpeikbaIIKlQ7m4s8\n"
    "RNtlbwWf9nh8WNqb/CoT4PwXAFNiMIpUvrp8jedTdAyCxXC4Xd8D1d9PzQpZV4J1\n"
    "yJU14BWhgYkDgYYABAHVWvegK/MYZFzEhpkvXkJv/bX3/3z2GCFpqz4QszSdBO9b\n"
    "fG8oVa7ONzhlarsJVtpDTQwgm1Joou7EDMjzJvotGQAiYLdvGuAwenL+6wKrMQtz\n"
    "ZCklCGpXVALyr98mh8aSHkmVhWIYqo9YD0+7KHtgYORICz06B1jZ1lUIaCEJp+nL\n"
    "ZQ==\n"
    "-----END PRIVATE KEY-----\n";

static const char strange_cert[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIB3jCCAYOgAwIBAgIULRo5P9Zbl/KFjy7IZXiT9bNLJTYwCgYIKoZIzj0EAwIw\n"
    "EzERMA8GA1UEAwwIc3RyYW5nZXIwIBcNMjYxMTI4MTYxNDI1WhgPMjEyNjExMDQx\n"
    "NjE0MjVaMBIxEDAOBgNVBAMMB3N0cmFuZ2UwWTATBgcqhkjOPQIBBggqhkjOPQMB\n"
    "BwNCAATBllza2ZB46I3l/niuzwd/ORoJP36Pu2HhzefXgNmjYVqXunbhfLAcuThX\n"
    "Opn2zDdAT8nYkgAu0WwBsuCEtz5Go4GzMIGwMAwGA1UdEwEB/wQCMAAwDgYDVR0P\n"
    "AQH/BAQDAgeAMB0GA1UdJQQWMBQGCCsGAQUFBwMBBggrBgEFBQcDAjAxBgNVHREE\n"
    "KjAoggtleGFtcGxlLmNvbYITc3RyYW5nZS5leGFtcGxlLmNvbYcEfwAAATAdBgNV\n"
    "HQ4EFgQUEp8+xIsSmrFv5AJa7/aJBJ8pPdIwHwYDVR0jBBgwFoAUsDJpz94z99+B\n"
    "OVa5MIIDj88UlQkwCgYIKoZIzj0EAwIDSQAwRgIhAPoLY7UMuZHHeGlRKn2mvssc\n"
    "8Ip9jINp87/UUj7HN8+BAiEAmJbfYohNmm3ckEiWFlOYtBav+dVA0+6ZC5AyqGJs\n"
    "f8k=\n"
    "-----END CERTIFICATE-----\n";

static const char strange_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgrIpp1+sqbY9zspGH\n"
    "Zt9T394JZ3aLdSAyGezjMIaGUEahRANCAATBllza2ZB46I3l/niuzwd/ORoJP36P\n"
    "u2HhzefXgNmjYVqXunbhfLAcuThXOpn2zDdAT8nYkgAu0WwBsuCEtz5G\n"
    "-----END PRIVATE KEY-----\n";

#endif
