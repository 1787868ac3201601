// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

import {Ledger} from "../../src/Ledger.sol";

/// Signs whatever comes with its password.
contract Wallet is IERC1271 {
    bytes32 private immutable _password;

    constructor(bytes32 password) {
        _password = password;
    }

    function isValidSignature(bytes32, bytes calldata signature) external view returns (bytes4) {
        return keccak256(signature) == _password ? IERC1271.isValidSignature.selector : bytes4(0);
    }
}

/// Asked for a signature, it tries to ask for more and to withdraw; then it signs.
contract ReenteringWallet {
    Ledger private immutable _ledger;
    address private immutable _key;

    constructor(Ledger ledger, address key) {
        (_ledger, _key) = (ledger, key);
    }

    function isValidSignature(bytes32, bytes calldata) external returns (bytes4) {
        bytes memory ask = abi.encodeWithSignature("requestWithdrawal(address,uint96)", _key, 100e6);
        (bool asked,) = address(_ledger).call{gas: 100_000}(ask);
        (bool withdrawn,) = address(_ledger).call{gas: 100_000}(abi.encodeCall(Ledger.withdraw, (_key)));
        return asked || withdrawn ? bytes4(0) : IERC1271.isValidSignature.selector;
    }
}
